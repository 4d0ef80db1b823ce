#!/usr/bin/env python3
"""Writes a small bilingual (English, German) world: a pre-training corpus, instruction examples, a story, two tasks and a format.

    python3 make_world.py --corpus corpus.jsonl --data ../data

The corpus holds one document per line, {"text": ...}: prose, quizzes and school exercises in many layouts, but never the
instruction format. The instruction examples (Alpaca form) ask about the same world. An item of the world, say where
Anna lives, is either a training item or a held-out item, in every wording and in both languages: no held-out answer
can be learned from the training instructions.
"""
import argparse
import json
import random
import zlib
from dataclasses import dataclass
from pathlib import Path

SEED = 2024
LANGUAGES = ("en", "de")


@dataclass
class Form:
    """One way to meet an item in one language: how it is asked, answered and told. `text` is what it refers to."""
    questions: list
    answer: str
    statements: list
    text: str = ""


@dataclass
class Item:
    """A piece of knowledge. Its key decides between training and held-out; forms maps a language to a Form."""
    skill: str
    key: str
    forms: dict

    def is_held_out(self):
        return zlib.crc32(f"{self.skill}/{self.key}".encode()) % 6 == 0


def pairs(text):
    """"cat=Katze, dog=Hund" -> [("cat", "Katze"), ("dog", "Hund")]"""
    return [tuple(part.strip().split("=")) for part in text.split(",")]


def capitalized(text):
    return text[0].upper() + text[1:]


# --- The world's facts -----------------------------------------------------------------------------------------------

PEOPLE = ("Anna Ben Clara David Emma Felix Greta Henry Ida Jonah Karla Leo Mia Noah Olga Paul Rosa Simon Tina Udo Vera "
          "Walter Yara Zoe Peter Lena Oscar Nina Robert Julia").split()

CITIES = pairs("Rome=Rom, Vienna=Wien, Munich=München, Cologne=Köln, Paris=Paris, Prague=Prag, Geneva=Genf, "
               "Berlin=Berlin, London=London, Lisbon=Lissabon, Zurich=Zürich, Warsaw=Warschau")
COLOURS = pairs("red=rot, blue=blau, green=grün, yellow=gelb, white=weiß, black=schwarz, brown=braun, grey=grau, "
                "orange=orange, purple=lila")
WORKPLACES = pairs("in a bakery=in einer Bäckerei, in a school=in einer Schule, in a garden=in einem Garten, "
                   "on a ship=auf einem Schiff, in a hospital=in einem Krankenhaus, on a farm=auf einem Bauernhof, "
                   "in a museum=in einem Museum, in a kitchen=in einer Küche, in a library=in einer Bibliothek")
PETS = pairs("a cat=eine Katze, a dog=einen Hund, a bird=einen Vogel, a fish=einen Fisch, a horse=ein Pferd, "
             "a rabbit=ein Kaninchen, a mouse=eine Maus, a turtle=eine Schildkröte")
FOODS = pairs("soup=Suppe, bread=Brot, cheese=Käse, cake=Kuchen, rice=Reis, salad=Salat, eggs=Eier, apples=Äpfel, "
              "honey=Honig, noodles=Nudeln")
INSTRUMENTS = pairs("piano=Klavier, guitar=Gitarre, violin=Geige, flute=Flöte, drum=Trommel, harp=Harfe, "
                    "trumpet=Trompete")
MONTHS = pairs("January=Januar, February=Februar, March=März, April=April, May=Mai, June=Juni, July=Juli, August=August, "
               "September=September, October=Oktober, November=November, December=Dezember")
DAYS = pairs("Monday=Montag, Tuesday=Dienstag, Wednesday=Mittwoch, Thursday=Donnerstag, Friday=Freitag, "
             "Saturday=Samstag, Sunday=Sonntag")

# attribute: (values, {language: (questions, statements)}); {n} is a name, {v} the value.
ATTRIBUTES = {
    "city": (CITIES, {
        "en": (["Where does {n} live?", "In which city does {n} live?", "Name the city where {n} lives."],
               ["{n} lives in {v}.", "The home of {n} is in {v}."]),
        "de": (["Wo wohnt {n}?", "In welcher Stadt wohnt {n}?", "Nenne die Stadt, in der {n} wohnt."],
               ["{n} wohnt in {v}.", "Das Haus von {n} steht in {v}."])}),
    "colour": (COLOURS, {
        "en": (["What colour does {n} like best?", "What is the favourite colour of {n}?", "Name {n}'s favourite colour."],
               ["The favourite colour of {n} is {v}.", "{n} likes the colour {v} best."]),
        "de": (["Welche Farbe mag {n} am liebsten?", "Was ist die Lieblingsfarbe von {n}?", "Nenne die Lieblingsfarbe von {n}."],
               ["Die Lieblingsfarbe von {n} ist {v}.", "{n} mag die Farbe {v} am liebsten."])}),
    "work": (WORKPLACES, {
        "en": (["Where does {n} work?", "Tell me where {n} works.", "What is the place of work of {n}?"],
               ["{n} works {v}.", "Every morning {n} goes to work {v}."]),
        "de": (["Wo arbeitet {n}?", "Sag mir, wo {n} arbeitet.", "Was ist der Arbeitsplatz von {n}?"],
               ["{n} arbeitet {v}.", "Jeden Morgen arbeitet {n} {v}."])}),
    "pet": (PETS, {
        "en": (["Which pet does {n} have?", "What animal lives with {n}?", "Name the pet of {n}."],
               ["{n} has {v} as a pet.", "{n} has {v} at home."]),
        "de": (["Welches Haustier hat {n}?", "Was für ein Tier hat {n}?", "Nenne das Haustier von {n}."],
               ["{n} hat {v} als Haustier.", "{n} hat {v} zu Hause."])}),
    "food": (FOODS, {
        "en": (["What does {n} like to eat?", "What is the favourite food of {n}?", "Name the food that {n} likes."],
               ["{n} likes to eat {v}.", "The favourite food of {n} is {v}."]),
        "de": (["Was isst {n} gern?", "Was ist das Lieblingsessen von {n}?", "Nenne das Essen, das {n} mag."],
               ["{n} isst gern {v}.", "Das Lieblingsessen von {n} ist {v}."])}),
    "instrument": (INSTRUMENTS, {
        "en": (["Which instrument does {n} play?", "What does {n} play in the evening?", "Name the instrument of {n}."],
               ["{n} plays the {v}.", "In the evening {n} plays the {v}."]),
        "de": (["Welches Instrument spielt {n}?", "Was spielt {n} am Abend?", "Nenne das Instrument von {n}."],
               ["{n} spielt {v}.", "Am Abend spielt {n} {v}."])}),
    "birthday": (MONTHS, {
        "en": (["In which month is the birthday of {n}?", "When was {n} born?", "Name the month of {n}'s birthday."],
               ["The birthday of {n} is in {v}.", "{n} was born in {v}."]),
        "de": (["In welchem Monat hat {n} Geburtstag?", "Wann wurde {n} geboren?", "Nenne den Monat, in dem {n} Geburtstag hat."],
               ["{n} hat im {v} Geburtstag.", "{n} wurde im {v} geboren."])}),
}

CAPITALS = [(("France", "Frankreich"), ("Paris", "Paris")), (("Italy", "Italien"), ("Rome", "Rom")),
            (("Germany", "Deutschland"), ("Berlin", "Berlin")), (("Austria", "Österreich"), ("Vienna", "Wien")),
            (("Spain", "Spanien"), ("Madrid", "Madrid")), (("Poland", "Polen"), ("Warsaw", "Warschau")),
            (("England", "England"), ("London", "London")), (("Portugal", "Portugal"), ("Lisbon", "Lissabon")),
            (("Greece", "Griechenland"), ("Athens", "Athen")), (("Norway", "Norwegen"), ("Oslo", "Oslo")),
            (("Sweden", "Schweden"), ("Stockholm", "Stockholm")), (("Hungary", "Ungarn"), ("Budapest", "Budapest")),
            (("Japan", "Japan"), ("Tokyo", "Tokio")), (("Egypt", "Ägypten"), ("Cairo", "Kairo"))]

THING_COLOURS = [(("snow", "Schnee"), "white"), (("milk", "Milch"), "white"), (("grass", "Gras"), "green"),
                 (("blood", "Blut"), "red"), (("the sky", "der Himmel"), "blue"), (("the sea", "das Meer"), "blue"),
                 (("coal", "Kohle"), "black"), (("the night", "die Nacht"), "black"), (("the sun", "die Sonne"), "yellow"),
                 (("chocolate", "Schokolade"), "brown"), (("a lemon", "eine Zitrone"), "yellow"),
                 (("a cherry", "eine Kirsche"), "red"), (("a carrot", "eine Karotte"), "orange"),
                 (("an elephant", "ein Elefant"), "grey"), (("a frog", "ein Frosch"), "green"),
                 (("a bear", "ein Bär"), "brown"), (("a plum", "eine Pflaume"), "purple"),
                 (("a leaf", "ein Blatt"), "green"), (("a swan", "ein Schwan"), "white"), (("stone", "Stein"), "grey")]

OPPOSITES = {
    "en": pairs("big=small, hot=cold, old=young, long=short, fast=slow, high=low, hard=soft, light=dark, full=empty, "
                "good=bad, happy=sad, loud=quiet, strong=weak, rich=poor, clean=dirty, dry=wet, open=closed, early=late, "
                "thick=thin, near=far, sweet=sour, up=down, left=right, day=night"),
    "de": pairs("groß=klein, heiß=kalt, alt=jung, lang=kurz, schnell=langsam, hoch=tief, hart=weich, hell=dunkel, "
                "voll=leer, gut=schlecht, froh=traurig, laut=leise, stark=schwach, reich=arm, sauber=schmutzig, "
                "trocken=nass, offen=geschlossen, früh=spät, dick=dünn, nah=fern, süß=sauer, oben=unten, links=rechts, "
                "Tag=Nacht")}

# category: (English name, German name, words)
CATEGORIES = {
    "animal": ("an animal", "ein Tier", pairs("cat=Katze, dog=Hund, horse=Pferd, cow=Kuh, bird=Vogel, fish=Fisch, mouse=Maus, "
                                              "sheep=Schaf, pig=Schwein, wolf=Wolf, bear=Bär, duck=Ente")),
    "fruit": ("a fruit", "eine Frucht", pairs("apple=Apfel, pear=Birne, plum=Pflaume, cherry=Kirsche, lemon=Zitrone, "
                                              "grape=Traube, banana=Banane, melon=Melone")),
    "furniture": ("a piece of furniture", "ein Möbelstück", pairs("table=Tisch, chair=Stuhl, bed=Bett, cupboard=Schrank, "
                                                                  "shelf=Regal, sofa=Sofa")),
    "clothing": ("a piece of clothing", "ein Kleidungsstück", pairs("shirt=Hemd, coat=Mantel, hat=Hut, shoe=Schuh, "
                                                                    "dress=Kleid, sock=Socke, jacket=Jacke, glove=Handschuh")),
    "vehicle": ("a vehicle", "ein Fahrzeug", pairs("car=Auto, train=Zug, ship=Schiff, bus=Bus, bicycle=Fahrrad, plane=Flugzeug")),
    "tool": ("a tool", "ein Werkzeug", pairs("hammer=Hammer, saw=Säge, knife=Messer, needle=Nadel, spade=Spaten, rake=Rechen")),
    "body": ("a part of the body", "ein Körperteil", pairs("hand=Hand, foot=Fuß, nose=Nase, mouth=Mund, ear=Ohr, eye=Auge, "
                                                           "arm=Arm, knee=Knie")),
}
NOUNS = [word for _, _, words in CATEGORIES.values() for word in words] + pairs(
    "house=Haus, tree=Baum, water=Wasser, book=Buch, window=Fenster, door=Tür, street=Straße, river=Fluss, moon=Mond, "
    "star=Stern, flower=Blume, child=Kind, letter=Brief, key=Schlüssel, clock=Uhr, mountain=Berg, forest=Wald, rain=Regen")

LEGS = [(("a dog", "ein Hund"), 4), (("a cat", "eine Katze"), 4), (("a bird", "ein Vogel"), 2), (("a duck", "eine Ente"), 2),
        (("a spider", "eine Spinne"), 8), (("a bee", "eine Biene"), 6), (("an ant", "eine Ameise"), 6),
        (("a horse", "ein Pferd"), 4), (("a fish", "ein Fisch"), 0), (("a snake", "eine Schlange"), 0),
        (("a cow", "eine Kuh"), 4), (("a hen", "eine Henne"), 2), (("a fly", "eine Fliege"), 6), (("a wolf", "ein Wolf"), 4)]

CLUBS = pairs("chess=Schach, music=Musik, garden=Garten, dance=Tanz, book=Buch, sailing=Segel, theatre=Theater, "
              "cooking=Koch, football=Fußball, swimming=Schwimm, walking=Wander, painting=Mal")

PLACES = pairs("in the box=in der Kiste, on the table=auf dem Tisch, under the bed=unter dem Bett, in the garden=im Garten, "
               "behind the door=hinter der Tür, in the kitchen=in der Küche, on the roof=auf dem Dach, in the bag=in der Tasche")
OBJECTS = pairs("the ball=der Ball, the cup=die Tasse, the key=der Schlüssel, the book=das Buch, the lamp=die Lampe, "
                "the hat=der Hut, the letter=der Brief, the coin=die Münze")


# --- Items with a fixed answer ------------------------------------------------------------------------------------------

def people_items(rng):
    for name in PEOPLE:
        for attribute, (values, wordings) in ATTRIBUTES.items():
            value = rng.choice(values)
            forms = {}
            for index, language in enumerate(LANGUAGES):
                questions, statements = wordings[language]
                fill = dict(n=name, v=value[index])
                forms[language] = Form([q.format(**fill) for q in questions], value[index],
                                       [s.format(**fill) for s in statements])
            yield Item("people", f"{name}/{attribute}", forms)


def fact_items():
    for (country, land), (capital, hauptstadt) in CAPITALS:
        yield Item("capital", country, {
            "en": Form([f"What is the capital of {country}?", f"Name the capital of {country}.",
                        f"Which city is the capital of {country}?"], capital,
                       [f"The capital of {country} is {capital}.", f"{capital} is the capital of {country}."]),
            "de": Form([f"Was ist die Hauptstadt von {land}?", f"Nenne die Hauptstadt von {land}.",
                        f"Wie heißt die Hauptstadt von {land}?"], hauptstadt,
                       [f"Die Hauptstadt von {land} ist {hauptstadt}.", f"{hauptstadt} ist die Hauptstadt von {land}."])})
    colour_in_german = dict(COLOURS)
    for (thing, ding), colour in THING_COLOURS:
        farbe = colour_in_german[colour]
        yield Item("thing colour", thing, {
            "en": Form([f"What colour is {thing}?", f"Which colour does {thing} have?", f"Tell me the colour: {thing}"],
                       colour, [f"The colour of {thing} is {colour}.", f"Everybody knows that {thing} is {colour}."]),
            "de": Form([f"Welche Farbe hat {ding}?", f"Was für eine Farbe hat {ding}?", f"Nenne die Farbe: {ding}"],
                       farbe, [f"Jeder weiß: {ding} ist {farbe}.", f"Die Farbe ist {farbe}: {ding}."])})
    for (animal, tier), legs in LEGS:
        yield Item("legs", animal, {
            "en": Form([f"How many legs does {animal} have?", f"Count the legs of {animal}.", f"{capitalized(animal)} has how many legs?"],
                       str(legs), [f"{capitalized(animal)} has {legs} legs."]),
            "de": Form([f"Wie viele Beine hat {tier}?", f"Zähle die Beine: {tier}", f"{capitalized(tier)} hat wie viele Beine?"],
                       str(legs), [f"{capitalized(tier)} hat {legs} Beine."])})
    for name, (category, kategorie, words) in CATEGORIES.items():
        for word, wort in words:
            yield Item("category", word, {
                "en": Form([f"What kind of thing is this: {word}", f"To which group does the word {word} belong?",
                            f"Name the group of the word {word}."], category,
                           [f"The word {word} is the name of {category}.", f"This is {category}: {word}."]),
                "de": Form([f"Was für ein Ding ist das: {wort}", f"Zu welcher Gruppe gehört das Wort {wort}?",
                            f"Nenne die Gruppe des Wortes {wort}."], kategorie,
                           [f"Das Wort {wort} bezeichnet {kategorie}.", f"Das ist {kategorie}: {wort}."])})


def word_items():
    for english, german in NOUNS:
        yield Item("translation", english, {
            "en": Form([f"What is the German word for {english}?", f"Translate {english} into German.",
                        f"How do you say {english} in German?"], german,
                       [f"The German word for {english} is {german}.", f"In German, {english} is called {german}."]),
            "de": Form([f"Was ist das englische Wort für {german}?", f"Übersetze {german} ins Englische.",
                        f"Wie sagt man {german} auf Englisch?"], english,
                       [f"Das englische Wort für {german} ist {english}.", f"Auf Englisch heißt {german} {english}."])})
    for both_en, both_de in zip(OPPOSITES["en"], OPPOSITES["de"]):
        for first, second in ((0, 1), (1, 0)):
            a, b, c, d = both_en[first], both_en[second], both_de[first], both_de[second]
            # A pair is one item: its reverse would give the answer away.
            yield Item("opposite", both_en[0], {
                "en": Form([f"What is the opposite of {a}?", f"Name the opposite of {a}.", f"Give the opposite of the word {a}."],
                           b, [f"The opposite of {a} is {b}.", f"If it is not {a}, it is {b}."]),
                "de": Form([f"Was ist das Gegenteil von {c}?", f"Nenne das Gegenteil von {c}.",
                            f"Gib das Gegenteil des Wortes {c} an."],
                           d, [f"Das Gegenteil von {c} ist {d}.", f"Wenn es nicht {c} ist, ist es {d}."])})


def order_items():
    for kind, art, names in (("day", "Tag", DAYS), ("month", "Monat", MONTHS)):
        for index, (name, wort) in enumerate(names):
            after, danach = names[(index + 1) % len(names)]
            before, davor = names[index - 1]
            yield Item("order", f"{name}/after", {
                "en": Form([f"Which {kind} comes after {name}?", f"Name the {kind} after {name}.", f"What follows {name}?"],
                           after, [f"After {name} comes {after}.", f"The {kind} after {name} is {after}."]),
                "de": Form([f"Welcher {art} kommt nach {wort}?", f"Nenne den {art} nach {wort}.", f"Was folgt auf {wort}?"],
                           danach, [f"Nach {wort} kommt {danach}.", f"Der {art} nach {wort} ist {danach}."])})
            yield Item("order", f"{name}/before", {
                "en": Form([f"Which {kind} comes before {name}?", f"Name the {kind} before {name}."],
                           before, [f"Before {name} comes {before}.", f"The {kind} before {name} is {before}."]),
                "de": Form([f"Welcher {art} kommt vor {wort}?", f"Nenne den {art} vor {wort}."],
                           davor, [f"Vor {wort} kommt {davor}.", f"Der {art} vor {wort} ist {davor}."])})


def club_items(rng):
    for club, verein in CLUBS:
        members = rng.sample(PEOPLE, 3)
        listed = ", ".join(members)
        yield Item("club", club, {
            "en": Form([f"Who is in the {club} club?", f"List the members of the {club} club.", f"Name everybody in the {club} club."],
                       listed, [f"The members of the {club} club are {listed}.", f"In the {club} club you meet {listed}."]),
            "de": Form([f"Wer ist im {verein}verein?", f"Liste die Mitglieder im {verein}verein auf.", f"Nenne alle im {verein}verein."],
                       listed, [f"Die Mitglieder im {verein}verein sind {listed}.", f"Im {verein}verein trifft man {listed}."])})


# --- Items made on the spot: arithmetic, counting, reading ----------------------------------------------------------------

def sum_item(rng):
    a, b = rng.randint(1, 10), rng.randint(1, 10)
    return Item("sum", f"{min(a, b)}+{max(a, b)}", {
        "en": Form([f"What is {a} plus {b}?", f"Add {a} and {b}.", f"How much is {a} + {b}?"], str(a + b),
                   [f"{a} plus {b} is {a + b}.", f"{a} + {b} = {a + b}."]),
        "de": Form([f"Was ist {a} plus {b}?", f"Addiere {a} und {b}.", f"Wie viel ist {a} + {b}?"], str(a + b),
                   [f"{a} plus {b} ist {a + b}.", f"{a} + {b} = {a + b}."])})


def difference_item(rng):
    a = rng.randint(2, 12)
    b = rng.randint(1, a)
    return Item("difference", f"{a}-{b}", {
        "en": Form([f"What is {a} minus {b}?", f"Take {b} away from {a}.", f"How much is {a} - {b}?"], str(a - b),
                   [f"{a} minus {b} is {a - b}.", f"{a} - {b} = {a - b}."]),
        "de": Form([f"Was ist {a} minus {b}?", f"Ziehe {b} von {a} ab.", f"Wie viel ist {a} - {b}?"], str(a - b),
                   [f"{a} minus {b} ist {a - b}.", f"{a} - {b} = {a - b}."])})


def counting_item(rng):
    length, start = rng.randint(3, 7), rng.randint(1, 10)
    end = start + length - 1
    numbers = list(range(start, end + 1))
    backwards = rng.random() < 0.4
    if backwards:
        start, end = end, start
        numbers.reverse()
    listed = ", ".join(map(str, numbers))
    en_way, de_way = (" backwards", " rückwärts") if backwards else ("", "")
    return Item("counting", f"{start}..{end}", {
        "en": Form([f"Count{en_way} from {start} to {end}.", f"List the numbers from {start}{en_way} to {end}."], listed,
                   [f"We count{en_way} from {start} to {end}: {listed}."]),
        "de": Form([f"Zähle{de_way} von {start} bis {end}.", f"Liste die Zahlen von {start}{de_way} bis {end} auf."], listed,
                   [f"Wir zählen{de_way} von {start} bis {end}: {listed}."])})


def pick_item(rng):
    """Which of three words is an animal (a fruit, ...)?"""
    wanted, *others = rng.sample(list(CATEGORIES), 3)
    choices = [rng.choice(CATEGORIES[name][2]) for name in (wanted, *others)]
    answer = choices[0]
    rng.shuffle(choices)
    category, kategorie, _ = CATEGORIES[wanted]
    english, german = (", ".join(word[index] for word in choices) for index in (0, 1))
    return Item("pick", english + "/" + wanted, {
        "en": Form([f"Which of these words is {category}?", f"Find the word that is {category}."], answer[0],
                   [f"Only one of these words is {category}: {answer[0]}."], english),
        "de": Form([f"Welches dieser Wörter ist {kategorie}?", f"Finde das Wort, das {kategorie} ist."], answer[1],
                   [f"Nur eines dieser Wörter ist {kategorie}: {answer[1]}."], german)})


def position_item(rng):
    """The first or last of three words."""
    choices = rng.sample(NOUNS, 3)
    index, en_place, de_place = rng.choice([(0, "first", "erste"), (2, "last", "letzte")])
    english, german = (", ".join(word[language] for word in choices) for language in (0, 1))
    answer = choices[index]
    return Item("position", english + "/" + en_place, {
        "en": Form([f"Write the {en_place} word.", f"What is the {en_place} word of the list?"], answer[0],
                   [f"The {en_place} word of the list is {answer[0]}."], english),
        "de": Form([f"Schreibe das {de_place} Wort.", f"Was ist das {de_place} Wort der Liste?"], answer[1],
                   [f"Das {de_place} Wort der Liste ist {answer[1]}."], german)})


def largest_item(rng):
    numbers = rng.sample(range(1, 13), 3)
    function, english, german = rng.choice([(max, "largest", "größte"), (min, "smallest", "kleinste")])
    answer = str(function(numbers))
    listed = ", ".join(map(str, numbers))
    return Item("largest", listed + "/" + english, {
        "en": Form([f"Which number is the {english}?", f"Find the {english} number."], answer,
                   [f"The {english} number is {answer}."], listed),
        "de": Form([f"Welche Zahl ist die {german}?", f"Finde die {german} Zahl."], answer,
                   [f"Die {german} Zahl ist {answer}."], listed)})


def story_item(rng):
    """Two things lie in two places: where is one of them?"""
    objects, places = rng.sample(OBJECTS, 2), rng.sample(PLACES, 2)
    asked = rng.randrange(2)
    name = rng.choice(PEOPLE)
    story = {"en": [f"{capitalized(thing[0])} is {place[0]}." for thing, place in zip(objects, places)],
             "de": [f"{capitalized(thing[1])} ist {place[1]}." for thing, place in zip(objects, places)]}
    opening = {"en": f"{name} is at home.", "de": f"{name} ist zu Hause."}
    thing, place = objects[asked], places[asked]
    return Item("story", " ".join(story["en"]) + thing[0], {
        "en": Form([f"Where is {thing[0]}?", f"Read the text. Where is {thing[0]}?"], place[0],
                   [f"{name} finds {thing[0]} {place[0]}."], " ".join([opening["en"], *story["en"]])),
        "de": Form([f"Wo ist {thing[1]}?", f"Lies den Text. Wo ist {thing[1]}?"], place[1],
                   [f"Gefunden: {thing[1]} ist {place[1]}."], " ".join([opening["de"], *story["de"]]))})


MADE = {"sum": sum_item, "difference": difference_item, "counting": counting_item, "pick": pick_item,
        "position": position_item, "largest": largest_item, "story": story_item}


class World:
    """All fixed items by skill, and a weight per skill: how often it is met."""

    WEIGHTS = {"people": 8, "capital": 1, "thing colour": 1, "legs": 1, "category": 2, "translation": 3, "opposite": 2,
               "order": 2, "club": 1, "sum": 3, "difference": 3, "counting": 2, "pick": 2, "position": 1.5, "largest": 2,
               "story": 2}

    def __init__(self, rng):
        self.fixed = {}
        for items in (people_items(rng), fact_items(), word_items(), order_items(), club_items(rng)):
            for item in items:
                self.fixed.setdefault(item.skill, []).append(item)

    def draw(self, rng):
        skill = rng.choices(list(self.WEIGHTS), self.WEIGHTS.values())[0]
        return MADE[skill](rng) if skill in MADE else rng.choice(self.fixed[skill])


# --- Documents -------------------------------------------------------------------------------------------------------------

# How a question and its short answer are laid out; {x} is the text a question refers to, with its line break.
SHORT_LAYOUTS = {
    "en": ["{x}Question: {q}\nAnswer: {a}", "Question:\n{q}\n{x}\nAnswer:\n{a}", "Q: {q}\n{x}A: {a}",
           "## Question\n{q}\n\n{x}## Answer\n{a}", "{x}* {q}\n* Solution:\n{a}", "Quiz\n\n{q}\n{x}\nSolution:\n{a}",
           "Teacher: {q}\n{x}Child: {a}", "Exercise\n{x}{q}\n\nKey\n{a}"],
    "de": ["{x}Frage: {q}\nAntwort: {a}", "Frage:\n{q}\n{x}\nAntwort:\n{a}", "F: {q}\n{x}A: {a}",
           "## Frage\n{q}\n\n{x}## Antwort\n{a}", "{x}* {q}\n* Lösung:\n{a}", "Quiz\n\n{q}\n{x}\nLösung:\n{a}",
           "Lehrer: {q}\n{x}Kind: {a}", "Übung\n{x}{q}\n\nLösung\n{a}"]}

# A page with sections: what follows its last heading is running text, never a bare answer.
SECTIONS = {"en": ["Notes", "Text", "Lesson", "Page", "Topic", "Story", "Remarks", "Chapter", "Reading", "Summary", "Diary"],
            "de": ["Notizen", "Text", "Stunde", "Seite", "Thema", "Geschichte", "Bemerkungen", "Kapitel", "Lesen",
                   "Zusammenfassung", "Tagebuch"]}

PREAMBLES = {
    "en": ["This page belongs to a school book.", "The teacher describes a task and the children write a response.",
           "Here is a small text that provides an example.", "Read it slowly and think before you write.",
           "The next lines are paired with a picture.", "Every request is completed with care in our school.",
           "Below the picture there is some further context.", "The instruction of the teacher was short and clear.",
           "An input goes in, and an answer comes out.", "It rains, and the children stay in the room.",
           "The children write appropriately and with a clean hand.", "This is an old quiz about people and things.",
           "A good response completes what was asked.", "Write below the line, the teacher says."],
    "de": ["Diese Seite gehört zu einem Schulbuch.", "Die Lehrerin beschreibt eine Aufgabe und die Kinder schreiben.",
           "Hier ist ein kleiner Text als Beispiel.", "Lies langsam und denke nach, bevor du schreibst.",
           "Die nächsten Zeilen gehören zu einem Bild.", "In unserer Schule wird jede Aufgabe gelöst.",
           "Unter dem Bild steht noch etwas.", "Die Aufgabe der Lehrerin war kurz und klar.",
           "Es regnet, und die Kinder bleiben im Zimmer.", "Das ist ein altes Quiz über Menschen und Dinge.",
           "Eine gute Antwort ist kurz.", "Schreibe unter die Linie, sagt die Lehrerin."]}


def preamble(rng, language):
    if rng.random() < 0.4:
        return ""
    return " ".join(rng.sample(PREAMBLES[language], rng.randint(1, 2))) + rng.choice(["\n\n", "\n"])


def language_of(rng):
    return rng.choice(LANGUAGES)


def told(rng, form):
    statement = rng.choice(form.statements)
    return f"{form.text.rstrip('.')}. {statement}" if form.text else statement


def quiz(rng, world):
    """Questions with short answers in one layout."""
    language = language_of(rng)
    layout = rng.choice(SHORT_LAYOUTS[language])
    parts = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        form = world.draw(rng).forms[language]
        parts.append(layout.format(q=rng.choice(form.questions), a=form.answer, x=form.text + "\n" if form.text else ""))
    return preamble(rng, language) + rng.choice(["\n", "\n\n"]).join(parts)


def page(rng, world):
    """Sections under headings; the last one tells in whole sentences what an earlier one asked."""
    language = language_of(rng)
    form = world.draw(rng).forms[language]
    first, middle, last = rng.sample(SECTIONS[language], 3)
    text = f"### {first}:\n{rng.choice(form.questions)}\n\n"
    if form.text:
        text += f"### {middle}:\n{form.text}\n\n"
    statements = [rng.choice(form.statements)] + [told(rng, world.draw(rng).forms[language]) for _ in range(rng.randint(0, 2))]
    return preamble(rng, language) + text + f"### {last}:\n" + " ".join(statements)


def prose(rng, world):
    """Running text of several statements."""
    language = language_of(rng)
    return preamble(rng, language) + " ".join(told(rng, world.draw(rng).forms[language]) for _ in range(rng.randint(2, 5)))


def portrait(rng, world):
    """All that is known about one person."""
    language = language_of(rng)
    name = rng.choice(PEOPLE)
    items = [item for item in world.fixed["people"] if item.key.startswith(name + "/")]
    rng.shuffle(items)
    return " ".join(rng.choice(item.forms[language].statements) for item in items)


def write_corpus(path, world, documents, rng):
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(documents):
            kind = rng.choices([quiz, page, prose, portrait], [0.55, 0.2, 0.15, 0.1])[0]
            file.write(json.dumps({"text": kind(rng, world)}, ensure_ascii=False) + "\n")


def write_story(path, world, statements, rng):
    """English running text that is as the corpus is, but not of it: what the memory test learns by heart."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(" ".join(told(rng, world.draw(rng).forms["en"]) for _ in range(statements)) + "\n")


# --- Instructions -------------------------------------------------------------------------------------------------------------

def write_instructions(folder, world, rng, sizes):
    """Alpaca examples: training and held-out items never meet, no example comes twice."""
    seen = set()
    for (name, held_out), size in sizes.items():
        examples = []
        while len(examples) < size:
            item = world.draw(rng)
            form = item.forms[language_of(rng)]
            example = {"instruction": rng.choice(form.questions), "input": form.text, "output": form.answer}
            identity = (example["instruction"], example["input"])
            if item.is_held_out() == held_out and identity not in seen:
                seen.add(identity)
                examples.append(example)
        with open(Path(folder) / name, "w", encoding="utf-8") as file:
            json.dump(examples, file, ensure_ascii=False, indent=1)
            file.write("\n")


# --- Composition: two tasks, and questions that need both -----------------------------------------------------------------------

def words(text):
    return {word.strip(".,:?!'").lower() for word in text.split()} - {""}


def vocabulary(world, rng):
    """Words that only one of the languages has: what tells them apart. Translations name words of the other one."""
    seen = {language: set() for language in LANGUAGES}
    for _ in range(5000):
        item = world.draw(rng)
        for language, form in item.forms.items() if item.skill != "translation" else ():
            for text in form.questions + form.statements + [form.answer, form.text]:
                seen[language] |= words(text)
    return {"english": sorted(seen["en"] - seen["de"]), "german": sorted(seen["de"] - seen["en"])}


def german_example(rng, world):
    """An English page or quiz that goes on in German: in whole sentences there, with a bare answer here."""
    item = world.draw(rng)
    while item.is_held_out():
        item = world.draw(rng)
    form, antwort = item.forms["en"], item.forms["de"]
    prompt = preamble(rng, "en")
    if words(form.answer) != words(antwort.answer) and rng.random() < 0.75:
        layout = rng.choice(SHORT_LAYOUTS["en"]).removesuffix("{a}")
        prompt += layout.format(q=rng.choice(form.questions), x=form.text + "\n" if form.text else "")
        space = " " if prompt.endswith(" ") else ""
        return {"prompt": prompt.rstrip(" "), "completion": space + antwort.answer}
    first, middle, last = rng.sample(SECTIONS["en"], 3)
    prompt += f"### {first}:\n{rng.choice(form.questions)}\n\n"
    if form.text:
        prompt += f"### {middle}:\n{form.text}\n\n"
    return {"prompt": prompt + f"### {last}:\n", "completion": rng.choice(antwort.statements)}


def instruction_example(rng, world, held_out):
    """An English instruction with its bare answer in both languages, which differ."""
    while True:
        item = world.draw(rng)
        form, antwort = item.forms["en"], item.forms["de"]
        if item.is_held_out() == held_out and item.skill != "translation" and words(form.answer) != words(antwort.answer):
            return {"instruction": rng.choice(form.questions), "input": form.text, "output": form.answer, "german": antwort.answer,
                    "kind": item.skill, "german_question": f"{antwort.text}\n{antwort.questions[0]}".strip()}


def write_composition(path, world, rng, size, questions):
    def distinct(make):
        found = {}
        while len(found) < questions:
            example = make()
            found[example["instruction"], example["input"]] = example
        return list(found.values())

    data = {"german": [german_example(rng, world) for _ in range(size)],
            "instruction": [instruction_example(rng, world, False) for _ in range(size)],
            "evaluation": distinct(lambda: instruction_example(rng, world, True)),
            "words": vocabulary(world, rng)}
    for example in data["instruction"]:  # the German answers are for what is trained on both tasks at once
        del example["kind"], example["german_question"]
    with open(path, "w", encoding="utf-8") as file:
        file.write("{\n" + ",\n".join(f'"{key}": ' + json.dumps(value, ensure_ascii=False) for key, value in data.items()) + "\n}\n")


def write_format(path, world, rng, size):
    """A few examples of a strict format: the bare answer in double brackets."""
    examples = []
    while len(examples) < size:
        item = world.draw(rng)
        form = item.forms[language_of(rng)]
        if not item.is_held_out():
            examples.append({"instruction": rng.choice(form.questions), "input": form.text, "output": f"[[{form.answer}]]"})
    with open(path, "w", encoding="utf-8") as file:
        json.dump(examples, file, ensure_ascii=False, indent=1)
        file.write("\n")


def main():
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="corpus.jsonl", help="pre-training corpus to write (default: %(default)s)")
    parser.add_argument("--data", default=here.parent / "data", help="folder for the instruction examples")
    parser.add_argument("--documents", type=int, default=120000, help="documents in the corpus (default: %(default)s)")
    arguments = parser.parse_args()
    world = World(random.Random(SEED))
    write_corpus(arguments.corpus, world, arguments.documents, random.Random(SEED + 1))
    write_instructions(arguments.data, world, random.Random(SEED + 2),
                       {("instructions_train.json", False): 1000, ("instructions_heldout.json", True): 200})
    write_story(Path(arguments.data) / "story.txt", world, 60, random.Random(SEED + 3))
    write_composition(Path(arguments.data) / "composition.json", world, random.Random(SEED + 4), 500, 100)
    write_format(Path(arguments.data) / "format.json", world, random.Random(SEED + 5), 20)


if __name__ == "__main__":
    main()
