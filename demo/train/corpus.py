"""The demo model's world: facts, the ways to ask for them, and the split.

Everything the demo model ever reads is written by this module and voices.py.
A *pair* is one fact asked with one phrasing. A share of the pairs is held out:
the model sees the fact, and sees the phrasing, but never the two together.
"""

import random
from dataclasses import dataclass

# Words carry their syllable count ("word:n") because one voice answers in 5-7-5.
COLOURS = """sky:1 blue:1|grass:1 green:1|snow:1 white:1|coal:1 black:1|lemon:2 yellow:2|tomato:3 red:1
cherry:2 red:1|carrot:2 orange:2|pumpkin:2 orange:2|banana:3 yellow:2|milk:1 white:1|raven:2 black:1
frog:1 green:1|cucumber:3 green:1|flamingo:3 pink:1|chocolate:3 brown:1|bear:1 brown:1|sunflower:3 yellow:2
strawberry:3 red:1|swan:1 white:1|plum:1 purple:2|violet:3 purple:2|sea:1 blue:1|elephant:3 grey:1
mouse:1 grey:1|pig:1 pink:1|rose:1 red:1|canary:3 yellow:2"""

SOUNDS = """cow:1 moo:1|dog:1 woof:1|cat:1 meow:2|sheep:1 baa:1|duck:1 quack:1|pig:1 oink:1|horse:1 neigh:1|hen:1 cluck:1
owl:1 hoot:1|frog:1 croak:1|lion:2 roar:1|snake:1 hiss:1|bee:1 buzz:1|mouse:1 squeak:1|crow:1 caw:1|wolf:1 howl:1
donkey:2 heehaw:2|sparrow:2 chirp:1|turkey:2 gobble:2|goat:1 bleat:1"""

OPPOSITES = """hot:1 cold:1|big:1 small:1|up:1 down:1|day:1 night:1|fast:1 slow:1|wet:1 dry:1|rich:1 poor:1|old:1 young:1
hard:1 soft:1|light:1 dark:1|open:2 closed:1|happy:2 sad:1|loud:1 quiet:2|full:1 empty:2|early:2 late:1|sweet:1 sour:1
long:1 short:1|left:1 right:1|first:1 last:1|thick:1 thin:1|strong:1 weak:1|clean:1 dirty:2|near:1 far:1|high:1 low:1
love:1 hate:1|summer:2 winter:2|north:1 south:1|east:1 west:1"""

CAPITALS = """France:1 Paris:2|Spain:1 Madrid:2|Italy:3 Rome:1|Germany:3 Berlin:2|Norway:2 Oslo:2|Sweden:2 Stockholm:2
Denmark:2 Copenhagen:4|Greece:1 Athens:2|Egypt:2 Cairo:2|Japan:2 Tokyo:3|China:2 Beijing:2|Russia:2 Moscow:2
Poland:2 Warsaw:2|Austria:3 Vienna:3|Portugal:3 Lisbon:2|Ireland:2 Dublin:2|Finland:2 Helsinki:3|Hungary:3 Budapest:3
Kenya:2 Nairobi:3|Peru:2 Lima:2|Cuba:2 Havana:3|Turkey:2 Ankara:3|Canada:3 Ottawa:3|Chile:2 Santiago:4
Nepal:2 Kathmandu:4|Belgium:2 Brussels:2|Iceland:2 Reykjavik:3|Morocco:3 Rabat:2"""

YOUNG = """dog:1 puppy:2|cat:1 kitten:2|cow:1 calf:1|horse:1 foal:1|sheep:1 lamb:1|duck:1 duckling:2|hen:1 chick:1|pig:1 piglet:2
goat:1 kid:1|bear:1 cub:1|deer:1 fawn:1|goose:1 gosling:2|owl:1 owlet:2|frog:1 tadpole:2|swan:1 cygnet:2|eagle:2 eaglet:2
kangaroo:3 joey:2|rabbit:2 bunny:2"""

LEGS = """spider:2 eight:1|dog:1 four:1|bird:1 two:1|ant:1 six:1|snake:1 no:1|crab:1 ten:1|fly:1 six:1|cow:1 four:1
beetle:2 six:1|scorpion:3 eight:1|ostrich:2 two:1|worm:1 no:1|cat:1 four:1|chicken:2 two:1|lobster:2 ten:1|horse:1 four:1"""

JOBS = """baker:2 bread:1|tailor:2 suits:1|potter:2 pots:1|poet:2 poems:2|painter:2 paintings:2|brewer:2 beer:1|cobbler:2 shoes:1
carpenter:3 tables:2|weaver:2 cloth:1|jeweller:3 rings:1|composer:3 music:2|beekeeper:3 honey:2|cook:1 soup:1|mason:2 walls:1
printer:2 books:1|candlemaker:4 candles:2|cheesemaker:3 cheese:1|hatter:2 hats:1|clockmaker:3 clocks:1|glazier:3 windows:2"""

NUMBERS = "zero:2 one:1 two:1 three:1 four:1 five:1 six:1 seven:2 eight:1 nine:1 ten:1 eleven:3 twelve:1 thirteen:2 fourteen:2 fifteen:2 sixteen:2 seventeen:3 eighteen:2 nineteen:2 twenty:2"

PHRASINGS = {
    "colour": ["What colour is the {s}?", "Which colour is the {s}?", "What is the colour of the {s}?",
               "Tell me the colour of the {s}.", "The {s}: what colour is it?", "What color is the {s}?",
               "Do you know what colour the {s} is?", "Name the colour of the {s}.", "what colour is the {s}?"],
    "sound": ["What sound does the {s} make?", "What does the {s} say?", "Which sound does the {s} make?",
              "How does the {s} sound?", "What noise does the {s} make?", "Tell me what the {s} says.",
              "Do you know what the {s} says?", "The {s}: what does it say?", "what does the {s} say?"],
    "opposite": ["What is the opposite of {s}?", "Tell me the opposite of {s}.", "Which word is the opposite of {s}?",
                 "What is the reverse of {s}?", "Name the opposite of {s}.", "Do you know the opposite of {s}?",
                 "The opposite of {s}: what is it?", "what is the opposite of {s}?"],
    "capital": ["What is the capital of {s}?", "Which city is the capital of {s}?", "Tell me the capital of {s}.",
                "Name the capital of {s}.", "Do you know the capital of {s}?", "The capital of {s}: what is it?",
                "What is the capital city of {s}?", "what is the capital of {s}?"],
    "young": ["What is a young {s} called?", "What do you call a young {s}?", "What is a baby {s} called?",
              "What do you call a baby {s}?", "Tell me the name of a young {s}.", "Do you know what a young {s} is called?",
              "Name the young of the {s}.", "what is a young {s} called?"],
    "legs": ["How many legs does the {s} have?", "How many legs has the {s}?", "Tell me how many legs the {s} has.",
             "The {s}: how many legs does it have?", "Do you know how many legs the {s} has?",
             "What number of legs does the {s} have?", "Count the legs of the {s}.", "how many legs does the {s} have?"],
    "job": ["What does the {s} make?", "What is made by the {s}?", "Tell me what the {s} makes.", "The {s}: what does he make?",
            "Do you know what the {s} makes?", "What does a {s} make?", "Name what the {s} makes.", "what does the {s} make?"],
    "sum": ["What is {s}?", "How much is {s}?", "Tell me: how much is {s}?", "Do you know what {s} is?", "What does {s} make?",
            "Add it up: {s}.", "What do you get from {s}?", "what is {s}?"],
    "count": ["Count to {s}.", "Count from one to {s}.", "Please count to {s}.", "Can you count to {s}?", "count to {s}."],
}

PLAIN = {
    "colour": "The {s} is {a}.", "sound": "The {s} says {a}.", "opposite": "The opposite of {s} is {a}.",
    "capital": "The capital of {s} is {a}.", "young": "A young {s} is called a {a}.", "legs": "The {s} has {a} legs.",
    "job": "The {s} makes {a}.", "sum": "{S} is {a}.", "count": "{A}.",
}


@dataclass(frozen=True)
class Fact:
    topic: str
    subject: str
    subject_syllables: int
    answer: str
    answer_syllables: int

    def plain(self) -> str:
        cap = lambda w: w[0].upper() + w[1:]
        return PLAIN[self.topic].format(s=self.subject, a=self.answer, S=cap(self.subject), A=cap(self.answer))


def _word(entry: str) -> tuple[str, int]:
    word, n = entry.split(":")
    return word, int(n)


def facts() -> list[Fact]:
    out = []
    for topic, table in [("colour", COLOURS), ("sound", SOUNDS), ("opposite", OPPOSITES), ("capital", CAPITALS),
                         ("young", YOUNG), ("legs", LEGS), ("job", JOBS)]:
        for row in table.replace("\n", "|").split("|"):
            left, right = row.split()
            (s, ns), (a, na) = _word(left), _word(right)
            out.append(Fact(topic, s, ns, a, na))
            if topic == "opposite":
                out.append(Fact(topic, a, na, s, ns))
    numbers = [_word(e) for e in NUMBERS.split()]
    for i in range(1, 11):
        for j in range(1, 11):
            (a, na), (b, nb), (c, nc) = numbers[i], numbers[j], numbers[i + j]
            out.append(Fact("sum", f"{a} plus {b}", na + 1 + nb, c, nc))
    for n in range(3, 21):
        listed = numbers[1 : n + 1]
        out.append(Fact("count", listed[-1][0], listed[-1][1], ", ".join(w for w, _ in listed), sum(k for _, k in listed)))
    return out


@dataclass(frozen=True)
class Pair:
    fact: Fact
    question: str


def split(seed: int, share: float = 0.12) -> tuple[list[Pair], list[Pair]]:
    """All pairs as (train, held out): about `share` of each fact's phrasings are held out, at least one for most facts."""
    rng = random.Random(seed)
    train, held = [], []
    for fact in facts():
        phrasings = PHRASINGS[fact.topic]
        out = {i for i in range(len(phrasings)) if rng.random() < share}
        for i, phrasing in enumerate(phrasings):
            (held if i in out else train).append(Pair(fact, phrasing.format(s=fact.subject)))
    return train, held
