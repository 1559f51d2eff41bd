"""A small synthetic English: its words and its facts.

Every question has an answer we know, because we made the world it asks about. State capitals,
codes, birds and flowers are real; rivers, heroes, songs and the two-word cities are invented.

Two-word cities are assigned by exclusive or: the cities of two first words and two last words
form a square, one diagonal belongs to one state and the other diagonal to another. No sum of
a score for the first word and a score for the last word can then place more than half of them,
so that "fort worth is in texas" has to be computed and cannot be read off the embeddings.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

PAD, BOS, UNKNOWN = 0, 1, 2
SPECIAL = ("<pad>", "<bos>", "<unk>")

# state capital code region bird flower
_STATES = """
alabama montgomery AL south yellowhammer camellia
alaska juneau AK pacific ptarmigan forget-me-not
arizona phoenix AZ southwest wren saguaro
arkansas little-rock AR south mockingbird apple
california sacramento CA pacific quail poppy
colorado denver CO mountains bunting columbine
connecticut hartford CT northeast robin laurel
delaware dover DE east hen peach
florida tallahassee FL south mockingbird orange
georgia atlanta GA south thrasher cherokee
hawaii honolulu HI pacific goose hibiscus
idaho boise ID mountains bluebird syringa
illinois springfield IL midwest cardinal violet
indiana indianapolis IN midwest cardinal peony
iowa des-moines IA plains goldfinch wildrose
kansas topeka KS plains meadowlark sunflower
kentucky frankfort KY east cardinal goldenrod
louisiana baton-rouge LA south pelican magnolia
maine augusta ME northeast chickadee pinecone
maryland annapolis MD east oriole daisy
massachusetts boston MA northeast chickadee mayflower
michigan lansing MI midwest robin apple
minnesota saint-paul MN midwest loon orchid
mississippi jackson MS south mockingbird magnolia
missouri jefferson-city MO plains bluebird hawthorn
montana helena MT mountains meadowlark bitterroot
nebraska lincoln NE plains meadowlark goldenrod
nevada carson-city NV southwest bluebird sagebrush
new-hampshire concord NH northeast finch lilac
new-jersey trenton NJ east goldfinch violet
new-mexico santa-fe NM southwest roadrunner yucca
new-york albany NY northeast bluebird rose
north-carolina raleigh NC south cardinal dogwood
north-dakota bismarck ND plains meadowlark wildrose
ohio columbus OH midwest cardinal carnation
oklahoma oklahoma-city OK plains flycatcher rose
oregon salem OR pacific osprey grape
pennsylvania harrisburg PA east grouse laurel
rhode-island providence RI northeast rooster violet
south-carolina columbia SC south wren jessamine
south-dakota pierre SD plains pheasant pasque
tennessee nashville TN south mockingbird iris
texas austin TX southwest mockingbird bluebonnet
utah salt-lake-city UT mountains gull sego
vermont montpelier VT northeast thrush clover
virginia richmond VA east cardinal dogwood
washington olympia WA pacific goldfinch rhododendron
west-virginia charleston WV east cardinal rhododendron
wisconsin madison WI midwest robin violet
wyoming cheyenne WY mountains meadowlark paintbrush
"""
_TABLE = [line.split() for line in _STATES.strip().split("\n")]
_RIVERS = """
alder amber anchor arrow basin beaver birch bison bluff bravo canoe copper coyote crane cypress
delta ember fern flint fox garnet granite hazel heron indigo juniper kettle lark lynx marsh
mesa mist moss otter owl pebble pike quartz raven reed sable salmon sparrow swan thistle timber
trout walnut willow wolf
"""
_HEROES = """
abbott bishop booker calloway carver chandler cooper crawford dalton draper ellison everett
fletcher foster gallagher garrison hadley harper holloway hutton ingram jarvis kendall langley
lawson mercer merritt morrow nolan oakley palmer parrish pelham quincy ramsey redding sawyer
shelby sinclair talbot tanner thatcher turner underhill vance wallace webster whitman winslow yates
"""
_SONGS = """
afterglow anthem aurora ballad blossom breeze candle canyon chorus cinder comet cradle dawn
daybreak dream drifter dusk echo feather firefly frost gale gypsy harvest homeland horizon
lantern lullaby meadow melody midnight mirage moonlight morning prairie rainbow refrain
sailor serenade shadow shepherd snowfall starlight sunrise thunder tide twilight valor wander winter
"""
FIRST_WORDS = tuple(
    "fort san oak lake glen cedar maple eagle gold pine clear silver stone red elk fair mill long high west".split()
)
LAST_WORDS = tuple("worth antonio harbor springs falls grove city ridge point valley park beach".split())
_FAMOUS = """
dallas texas houston texas oakland california fresno california chicago illinois detroit michigan
miami florida seattle washington portland oregon memphis tennessee cleveland ohio
philadelphia pennsylvania baltimore maryland buffalo new-york tucson arizona milwaukee wisconsin
"""
NAMINGS = ("name", "title", "label", "identity")
"""Four ways to ask for the state itself."""

ATTRIBUTES = ("capital", "code", "region", "bird", "flower", "river", "hero", "song")

NAMES = tuple(
    """mary john alice bob carol david emma frank grace henry irene jack kate leo nora oscar paula
robert sarah tom ursula victor wendy peter""".split()
)
PLACES = tuple("store school station office garden museum market library".split())
THINGS = tuple("drink book letter ball ticket coin basket lamp".split())
EVENTS = tuple("crusade strike reign trial siege voyage project feud".split())
CENTURIES = tuple("11 12 13 14 15 16 17 18 19".split())
NOUNS = tuple(
    """key keys cabinet cabinets teacher teachers student students driver drivers truck trucks dog dogs
tree trees author authors novel novels pilot pilots plane planes""".split()
)
PREPOSITIONS = tuple("behind beside with under".split())

# english french spanish, then the opposite in each
ANTONYMS = """
big énorme grande small petit pequeño
hot chaud caliente cold froid frío
fast rapide rápido slow lent lento
good bon bueno bad mauvais malo
young jeune joven ancient vieux viejo
tall haut alto short court corto
rich riche rico poor pauvre pobre
strong puissant fuerte weak faible débil
light léger ligero heavy lourd pesado
full plein lleno empty vide vacío
open ouvert abierto closed fermé cerrado
clean propre limpio dirty sale sucio
happy heureux feliz sad malheureux triste
wet mouillé mojado dry sec seco
easy facile fácil hard difficile difícil
wide large ancho narrow étroit estrecho
deep profond profundo shallow plat plano
early tôt temprano late tard tarde
near près cerca far loin lejos
day jour día night nuit noche
love amour amor hate haine odio
war guerre guerra peace paix paz
life vie vida death mort muerte
black noir negro white blanc blanco
soft doux suave rough rude áspero
loud bruyant ruidoso quiet calme tranquilo
first premier primero last dernier último
true vrai verdad false faux falso
win gagner ganar lose perdre perder
buy acheter comprar sell vendre vender
"""
LANGUAGE_NAMES = (
    ("english", "french", "spanish"),
    ("anglais", "français", "espagnol"),
    ("inglés", "francés", "español"),
)
"""Row by row what English, French and Spanish call the three."""


@dataclass(frozen=True, eq=False)
class Language:
    """The world: who lies where, and everything that can be asked.

    state_of: the state of every city, two-word and famous ones.
    value: (attribute, state) -> word.
    held_out: cities that no two-hop prompt of the training set mentions.
    famous: cities of one word.
    words: the vocabulary; a word's place is its token id.
    """

    state_of: dict[str, str]
    value: dict[tuple[str, str], str]
    held_out: frozenset[str]
    famous: tuple[str, ...]
    words: tuple[str, ...]

    @cached_property
    def index(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.words)}

    @cached_property
    def first_year(self) -> int:
        """The token id of the year 00; the other ninety-nine follow it."""
        return self.index["00"]

    @property
    def states(self) -> tuple[str, ...]:
        return tuple(row[0] for row in _TABLE)

    def ids(self, words: tuple[str, ...]) -> list[int]:
        """Token ids with `<bos>` first.

        Raises:
            KeyError: for a word that is not in the vocabulary.
        """
        return [BOS, *(self.index[word] for word in words)]


def make_language() -> Language:
    """The one world that every training seed shares."""
    random = np.random.default_rng(0)
    states = [row[0] for row in _TABLE]
    value = {(a, state): word for state, *words in _TABLE for a, word in zip(ATTRIBUTES[:5], words, strict=True)}
    for attribute, text in (("river", _RIVERS), ("hero", _HEROES), ("song", _SONGS)):
        given = random.permutation(text.split())
        value |= {(attribute, state): str(word) for state, word in zip(states, given, strict=True)}
    state_of = _place_cities(states, random)
    held_out = _hold_out(state_of, random)
    famous = _FAMOUS.split()
    state_of |= dict(zip(famous[::2], famous[1::2], strict=True))
    return Language(state_of, value, held_out, tuple(famous[::2]), _vocabulary(value))


def _place_cities(states: list[str], random: np.random.Generator) -> dict[str, str]:
    """Two diagonals of two squares for every state, no word twice in a state, three cities where we want them."""
    first, last = FIRST_WORDS, LAST_WORDS
    squares = [(i, j) for i in range(0, len(first), 2) for j in range(0, len(last), 2)]
    pinned = {(0, 0, 0): "texas", (2, 2, 0): "washington"}  # fort worth, san antonio; oak harbor
    while True:
        kept = [squares[k] for k in random.permutation(len(squares))]
        kept = [s for s in kept if (*s, 0) in pinned] + [s for s in kept if (*s, 0) not in pinned]
        diagonals = [(i, j, side) for i, j in kept[: len(states)] for side in (0, 1)]
        rest = list(random.permutation([s for s in states for _ in range(2)]))
        for state in pinned.values():
            rest.remove(state)
        owner = {d: pinned[d] if d in pinned else str(rest.pop()) for d in diagonals}
        if _repeats_nothing(owner):
            break
        owner = _swap_until_good(owner, pinned, random)
        if _repeats_nothing(owner):
            break
    return {f"{first[i + k]} {last[j + (k ^ side)]}": state for (i, j, side), state in owner.items() for k in (0, 1)}


def _clashes(owner: dict[tuple[int, int, int], str]) -> list[tuple[int, int, int]]:
    """Diagonals that share a row or a column of squares with another diagonal of their state."""
    return [
        a
        for a, state in owner.items()
        if any(b != a and other == state and (a[0] == b[0] or a[1] == b[1]) for b, other in owner.items())
    ]


def _repeats_nothing(owner: dict[tuple[int, int, int], str]) -> bool:
    return not _clashes(owner)


def _swap_until_good(
    owner: dict[tuple[int, int, int], str], pinned: dict[tuple[int, int, int], str], random: np.random.Generator
) -> dict[tuple[int, int, int], str]:
    """Exchange the states of a clashing diagonal and of another, as long as that leaves fewer clashes."""
    owner = dict(owner)
    free = [d for d in owner if d not in pinned]
    for _ in range(3000):
        bad = [d for d in _clashes(owner) if d not in pinned]
        if not bad:
            break
        a, b = bad[random.integers(len(bad))], free[random.integers(len(free))]
        before = len(_clashes(owner))
        owner[a], owner[b] = owner[b], owner[a]
        if len(_clashes(owner)) > before:
            owner[a], owner[b] = owner[b], owner[a]
    return owner


def _hold_out(state_of: dict[str, str], random: np.random.Generator, *, count: int = 34) -> frozenset[str]:
    """One city in each of `count` states, fort worth and oak harbor among them."""
    chosen = {"texas": "fort worth", "washington": "oak harbor"}
    for city in random.permutation(sorted(state_of)):
        if len(chosen) < count:
            chosen.setdefault(state_of[str(city)], str(city))
    return frozenset(chosen.values())


def _vocabulary(value: dict[tuple[str, str], str]) -> tuple[str, ...]:
    """Every word once, special tokens first, the hundred years in order."""
    frames = """
    the of is in state containing name when and went to , gave a at talked then had handed it lasted
    from opposite le contraire de est en lo contrario es + = are
    """
    years = [f"{year:02d}" for year in range(100)]
    texts = [
        *SPECIAL, *years, *"0123456789", *frames.split(), *ATTRIBUTES,
        *(row[0] for row in _TABLE), *value.values(),
        *FIRST_WORDS, *LAST_WORDS, *_FAMOUS.split(), *NAMES, *PLACES, *THINGS,
        *EVENTS, *NOUNS, *PREPOSITIONS, *ANTONYMS.split(),
        *(name for names in LANGUAGE_NAMES for name in names),
        *NAMINGS,
    ]  # fmt: skip
    return tuple(dict.fromkeys(texts))
