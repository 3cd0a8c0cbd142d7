"""The public facts of animals as JSON. Pure."""

from __future__ import annotations

from openapi_server.models.animal import Animal


def encode_summary(animal: Animal) -> dict[str, object]:
    return {
        "animalId": animal.animal_id,
        "name": animal.name,
        "species": animal.species,
        "scientificName": animal.scientific_name,
        "group": animal.group,
        "status": animal.status,
        "summary": animal.summary,
    }


def encode_details(animal: Animal) -> dict[str, object]:
    individual = animal.individual
    return encode_summary(animal) | {
        "conservation": {"status": animal.conservation_status, "code": animal.conservation_code},
        "individual": {
            "sex": individual.sex,
            "born": individual.born.isoformat(),
            "birthplace": individual.birthplace,
            "home": individual.home,
            "character": list(individual.character),
            "favourites": dict(individual.favourites),
        },
        "topics": sorted({fact.topic for fact in animal.facts}),
        "factCount": len(animal.facts),
        "sources": _encode_sources(animal),
    }


def _encode_sources(animal: Animal) -> list[dict[str, str]]:
    distinct = dict.fromkeys((fact.source.type, fact.source.title, fact.source.url) for fact in animal.facts)
    return [{"type": kind, "title": title} | ({"url": url} if url else {}) for kind, title, url in distinct]
