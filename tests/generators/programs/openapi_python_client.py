"""The client of openapi-python-client lists the animals, asks, and reads a stream."""

import json
import sys

from zoo_client import Client
from zoo_client.api.animals import animal_list
from zoo_client.api.talk import convo_turn
from zoo_client.models import AnimalList, ChunkEvent, CompleteEvent, ConvoTurnAnswer, ConvoTurnRequest

QUESTION = ConvoTurnRequest(message="How fast can you run?", animal_id="lion_001")


def main(url: str) -> None:
    client = Client(base_url=url)
    animals = animal_list.sync(client=client)
    assert isinstance(animals, AnimalList), animals
    answer = convo_turn.sync(client=client, body=QUESTION)
    assert isinstance(answer, ConvoTurnAnswer), answer

    events: list[str] = []
    text, full_response = "", ""
    # It has no function that reads a stream while it comes; its types and its connection are what it has for a reader.
    with client.get_httpx_client().stream("POST", "/convo_turn_stream", json=QUESTION.to_dict()) as response:
        for line in response.iter_lines():
            if not line.startswith("data: "):
                continue
            data = json.loads(line.removeprefix("data: "))
            events.append(data["type"])
            if data["type"] == "chunk":
                text += ChunkEvent.from_dict(data).content
            if data["type"] == "complete":
                full_response = CompleteEvent.from_dict(data).full_response

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
