"""The client of openapi-generator (python) lists the animals, asks, and reads a stream."""

import json
import sys

from zoo_client import AnimalsApi, ApiClient, ChunkEvent, CompleteEvent, Configuration, ConvoTurnRequest, TalkApi
from zoo_client.models.convo_event import ConvoEvent

QUESTION = ConvoTurnRequest(message="How fast can you run?", animalId="lion_001")


def main(url: str) -> None:
    with ApiClient(Configuration(host=url)) as client:
        talk = TalkApi(client)
        animals = AnimalsApi(client).animal_list()
        answer = talk.convo_turn(QUESTION)

        events: list[str] = []
        text, full_response = "", ""
        for line in talk.convo_turn_stream_without_preload_content(QUESTION):
            if not line.startswith(b"data: "):
                continue
            event = ConvoEvent.from_json(line.removeprefix(b"data: ").decode()).actual_instance
            assert event is not None
            events.append(event.type)
            if isinstance(event, ChunkEvent):
                text += event.content
            if isinstance(event, CompleteEvent):
                full_response = event.full_response

    told = {
        "animals": [animal.animal_id for animal in animals.animals],
        "reply": answer.reply,
        "events": events,
        "text": text,
        "fullResponse": full_response,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
