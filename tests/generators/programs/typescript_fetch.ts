import { AnimalsApi, Configuration, ConvoEventFromJSON, TalkApi } from "./client";
import { question, readEvents, run } from "../../../read_events";

run(async (url) => {
  const configuration = new Configuration({ basePath: url });
  const talk = new TalkApi(configuration);
  const list = await new AnimalsApi(configuration).animalList();
  const answer = await talk.convoTurn({ convoTurnRequest: question });

  const events: string[] = [];
  let text = "";
  let fullResponse = "";
  const { raw } = await talk.convoTurnStreamRaw({ convoTurnRequest: question });
  for await (const data of readEvents(raw.body!)) {
    const event = ConvoEventFromJSON(data);
    events.push(event.type);
    if (event.type === "chunk") text += event.content;
    if (event.type === "complete") fullResponse = event.fullResponse;
  }
  return { animals: list.animals.map((animal) => animal.animalId), reply: answer!.reply, events, text, fullResponse };
});
