import createClient from "openapi-fetch";

import type { components, paths } from "./client";
import { question, readEvents, run } from "../../../read_events";

run(async (url) => {
  const client = createClient<paths>({ baseUrl: url });
  const { data: list } = await client.GET("/animal_list");
  const { data: answer } = await client.POST("/convo_turn", { body: question });

  const events: string[] = [];
  let text = "";
  let fullResponse = "";
  const { data: body } = await client.POST("/convo_turn_stream", { body: question, parseAs: "stream" });
  for await (const event of readEvents<components["schemas"]["ConvoEvent"]>(body!)) {
    events.push(event.type);
    if (event.type === "chunk") text += event.content;
    if (event.type === "complete") fullResponse = event.fullResponse;
  }
  return { animals: list!.animals.map((animal) => animal.animalId), reply: answer!.reply, events, text, fullResponse };
});
