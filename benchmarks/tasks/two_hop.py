"""Two-hop facts: what the state of a city has, or the country of a capital. The state or country is not named.

Corruptions: another city; another question about the same city.
"""

from __future__ import annotations

from benchmarks.tasks.task import Filling, Pick, Task, Wording
from benchmarks.world.language import ATTRIBUTES, make_language

# city, state, its capital
_STATES = """
Dallas Texas Austin, Houston Texas Austin, Oakland California Sacramento, Chicago Illinois Springfield,
Detroit Michigan Lansing, Miami Florida Tallahassee, Orlando Florida Tallahassee, Seattle Washington Olympia,
Portland Oregon Salem, Memphis Tennessee Nashville, Cleveland Ohio Columbus, Cincinnati Ohio Columbus,
Philadelphia Pennsylvania Harrisburg, Pittsburgh Pennsylvania Harrisburg, Baltimore Maryland Annapolis,
Buffalo New-York Albany, Tucson Arizona Phoenix, Milwaukee Wisconsin Madison, Charlotte North-Carolina Raleigh
"""
# capital, country, language, continent
_COUNTRIES = """
Paris France French Europe, Berlin Germany German Europe, Rome Italy Italian Europe, Madrid Spain Spanish Europe,
Moscow Russia Russian Europe, Tokyo Japan Japanese Asia, Beijing China Chinese Asia, Athens Greece Greek Europe,
Warsaw Poland Polish Europe, Lisbon Portugal Portuguese Europe, Budapest Hungary Hungarian Europe,
Stockholm Sweden Swedish Europe, Oslo Norway Norwegian Europe, Copenhagen Denmark Danish Europe,
Helsinki Finland Finnish Europe, Prague Czechia Czech Europe, Bangkok Thailand Thai Asia, Seoul Korea Korean Asia,
Cairo Egypt Arabic Africa, London England English Europe, Vienna Austria German Europe, Dublin Ireland English Europe,
Jakarta Indonesia Indonesian Asia, Delhi India Hindi Asia, Baghdad Iraq Arabic Asia, Tehran Iran Persian Asia,
Damascus Syria Arabic Asia, Havana Cuba Spanish America, Lima Peru Spanish America, Santiago Chile Spanish America,
Amsterdam Netherlands Dutch Europe, Belgrade Serbia Serbian Europe, Bucharest Romania Romanian Europe,
Sofia Bulgaria Bulgarian Europe, Kiev Ukraine Ukrainian Europe, Hanoi Vietnam Vietnamese Asia,
Ankara Turkey Turkish Asia
"""
PHRASINGS = {
    "capital": "The capital of the state containing {city} is {answer}",
    "capital, from the city": "The city of {city} lies in a state whose capital is {answer}",
    "capital, told as a fact": "Fact: {city} is in a state, and the capital of that state is {answer}",
    "language": "The {asked} of the country whose capital is {city} is {answer}",
    "language, spoken": "People in the country whose capital is {city} mostly speak {answer}",
    "language, told as a fact": "Fact: the main {asked} of the country with the capital {city} is {answer}",
    "continent": "The {asked} of the country whose capital is {city} is {answer}",
    "continent, from the city": "The country whose capital is {city} lies in {answer}",
}
WORDS = {
    "capital": [(city, capital) for city, _, capital in map(str.split, _STATES.split(","))],
    "country": [(city, language, continent) for city, _, language, continent in map(str.split, _COUNTRIES.split(","))],
}


def draw(pick: Pick, phrasing: str, corruption: str) -> Filling | None:
    asked = phrasing.split(",")[0]
    pool, place = ("country", ("language", "continent").index(asked) + 1) if asked != "capital" else ("capital", 1)
    row, other = pick(pool, 2)
    clean, corrupted, wrong = {"city": row[0], "asked": asked}, {"city": other[0], "asked": asked}, other[place]
    if corruption == "another question":
        if "{asked}" not in PHRASINGS[phrasing]:
            return None
        corrupted, wrong = {**clean, "asked": "continent" if asked == "language" else "language"}, row[3 - place]
    return Filling(clean, corrupted, row[place], wrong) if row[place] != wrong else None


def world_words() -> dict[str, list[tuple[str, str, str]]]:
    """The invented country: cities with each attribute's name and value."""
    language = make_language()
    return {a: [(city, a, language.value[a, state]) for city, state in language.state_of.items()] for a in ATTRIBUTES}


def draw_world(pick: Pick, phrasing: str, corruption: str) -> Filling | None:
    city, attribute, right = pick.one(phrasing)
    if corruption == "another city":
        other, asked, wrong = pick.one(phrasing)
    else:
        asked = pick.random.choice([each for each in ATTRIBUTES if each != attribute])
        other, asked, wrong = next(row for row in pick.pools[asked] if row[0] == city)
    if right == wrong or len(city.split()) != len(other.split()):
        return None
    return Filling({"city": city, "attribute": attribute}, {"city": other, "attribute": asked}, right, wrong)


TASK = Task(
    about="what the state of a city has, or the country of a capital",
    wordings=(
        Wording(PHRASINGS, WORDS, draw),
        Wording(
            dict.fromkeys(ATTRIBUTES, "the {attribute} of the state containing {city} is {answer}"),
            world_words,
            draw_world,
            trained="two-hop",
        ),
    ),
    flips=("another city", "another question"),
)
