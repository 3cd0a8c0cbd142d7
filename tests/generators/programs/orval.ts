import { animalList, convoTurn, getConvoTurnStreamUrl, type ConvoEvent } from "./client";
import { question, readEvents, run } from "../../../read_events";

run(async () => {
  const list = await animalList();
  if (list.status !== 200) throw new Error(list.data.title);
  const answer = await convoTurn(question);
  if (answer.status !== 200) throw new Error(`status ${answer.status}`);

  const events: string[] = [];
  let text = "";
  let fullResponse = "";
  // Its own function for the stream gives the whole text at the end; the address and the types are what it has for a reader.
  const response = await fetch(getConvoTurnStreamUrl(), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(question),
  });
  for await (const event of readEvents<ConvoEvent>(response.body!)) {
    events.push(event.type);
    if (event.type === "chunk") text += event.content;
    if (event.type === "complete") fullResponse = event.fullResponse;
  }
  return { animals: list.data.animals.map((animal) => animal.animalId), reply: answer.data.reply, events, text, fullResponse };
});
