// What the programs share: reading the data of a stream's events, and printing what they got.
import { EventSourceParserStream } from "eventsource-parser/stream";

export const question = { message: "How fast can you run?", animalId: "lion_001" };

/** The data of each event, parsed from JSON. */
export async function* readEvents<Event>(body: ReadableStream<Uint8Array>): AsyncGenerator<Event> {
  // TypeScript 5.9 says of a decoder's input that it may be shared memory, which no body is.
  const decoder = new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>;
  const messages = body.pipeThrough(decoder).pipeThrough(new EventSourceParserStream());
  for await (const message of messages) {
    yield JSON.parse(message.data) as Event;
  }
}

/** What a program prints; the test reads it. */
export interface Talk {
  animals: string[];
  reply: string;
  events: string[];
  text: string;
  fullResponse: string;
}

export function run(talk: (url: string) => Promise<Talk>): void {
  talk(process.argv[2]!).then(
    (told) => console.log(JSON.stringify(told)),
    (error) => {
      console.error(error);
      process.exitCode = 1;
    },
  );
}
