import { client } from "./client/client.gen";
import { animalList, convoTurn, convoTurnStream } from "./client/sdk.gen";
import { question, run } from "../../../read_events";

run(async (url) => {
  client.setConfig({ baseUrl: url });
  const { data: list } = await animalList({ throwOnError: true });
  const { data: answer } = await convoTurn({ body: question, throwOnError: true });

  const events: string[] = [];
  let text = "";
  let fullResponse = "";
  const { stream } = await convoTurnStream({ body: question });
  for await (const event of stream) {
    events.push(event.type);
    if (event.type === "chunk") text += event.content;
    if (event.type === "complete") fullResponse = event.fullResponse;
  }
  return { animals: list.animals.map((animal) => animal.animalId), reply: answer.reply, events, text, fullResponse };
});
