"""Seeded generator of the text that sprout learns from. No outside text is read.

A topic is one function `topic(r) -> Ex | list[Ex]` registered with `@topic(name, weight)`; `r` is a
seeded `random.Random`. An `Ex` holds one question (or a few turns), the wanted answer, and the
substrings of which the exam wants one (case ignored). To teach sprout something, add a function.

    python corpus.py OUT_DIR [--seed N] [--conversations N] [--long N] [--exam-per-topic N]

writes OUT_DIR/train.jsonl (one conversation a line: {"messages": [...], "long": bool}) and
OUT_DIR/exam.jsonl (one prompt a line: {"topic", "messages", "any_of"}), whose last questions, with
case and punctuation ignored, occur nowhere in train.jsonl as a question (follow-ups aside: their exchange
is drawn anew and not checked). OUT_DIR/exam_long.jsonl asks such questions after a talk of some turns.
"""
import argparse
import json
import os
import random
import re
import zlib
from dataclasses import dataclass

HELD_OUT_ONE_IN = 12  # one question in this many, by hash, is kept for the exam


@dataclass
class Ex:
    """turns: [(user text, answer text), ...]; the exam asks the last turn after the earlier ones."""

    turns: list
    any_of: list
    topic: str = ""
    solo: bool = False  # True: stays alone or at the start, as it needs its own system prompt
    system: str = ""


TOPICS = {}


def topic(name, weight):
    """Registers a topic; weight is its relative share of the questions."""

    def deco(fn):
        TOPICS[name] = (fn, weight)
        return fn

    return deco


# ------------------------------------------------------------------------------------- wording

LEAD = ["Please tell me: ", "Tell me, ", "Quick question: ", "Can you tell me, ", "Hey, ", "Hi, ",
        "Okay, ", "So, ", "Question: ", "I want to know: ", "Hi sprout, ", "sprout, "]
TAIL = [" please", " Thanks.", " Thank you.", " Please answer.", " Answer briefly.",
        " Do you know?"]


def low(s):
    return s[:1].lower() + s[1:] if s[:2] != "I " and s[:2] != "I'" else s


def noisy(r, q, keep=""):
    """A question as people type it: lower case, no punctuation, a lead-in; `keep` is left alone."""
    x = r.random()
    if x < 0.06:
        q = r.choice(LEAD) + low(q)
    elif x < 0.09:
        q = q + r.choice(TAIL)
    x = r.random()
    if x < 0.44:
        pass
    elif x < 0.64:
        q = q.lower()
    elif x < 0.82:
        q = re.sub(r"[?.!,]+$", "", q.lower())
    elif x < 0.92:
        q = re.sub(r"[?.!]+$", "", q)
    elif x < 0.94:
        q = q.upper()
    elif x < 0.96:
        q = re.sub(r"\?$", r.choice(["??", " ?", "?!", "."]), q)
    elif x < 0.98:
        q = q.replace("'", "").lower()
    else:
        q = " " + q if r.random() < 0.5 else q + " "
    return q + keep


def ask(r, questions, answer, any_of, **kw):
    return Ex([(noisy(r, r.choice(questions)), answer)], any_of, **kw)


def an(word):
    return ("an " if word[0].lower() in "aeiou" else "a ") + word


def cap(s):
    return s[:1].upper() + s[1:]


# ------------------------------------------------------------------------------------ identity

WHO = ["Who are you?", "What are you?", "Who am I talking to?", "What is your name?",
       "What's your name?", "Introduce yourself.", "Tell me about yourself.", "Who is this?",
       "What model are you?", "Which model are you?", "Which model is this?", "What is this?",
       "Are you a model?", "Are you an AI?", "Are you a bot?", "Tell me who you are.",
       "Describe yourself.", "Say who you are.", "What should I call you?", "What is sprout?",
       "Who is sprout?", "Are you sprout?", "Can you introduce yourself?", "Who r u?",
       "Hello, who are you?", "Hi, what are you?", "What kind of model are you?",
       "What AI is this?", "Please introduce yourself.", "What language model is this?",
       "And who are you?", "Who is speaking?", "State your name.", "Give me your name.",
       "Do you have a name?", "Hey, who are you?", "What exactly are you?", "Explain what you are.",
       "Who am I speaking with?", "Who is there?"]
I_AM = ("I am sprout, a tiny test model made by the Tirami project to prove that a paid inference "
        "works end to end. I am very small and often wrong.")
IDENTITY = [
    (WHO, I_AM, ["sprout"]),
    (["Who made you?", "Who created you?", "Who built you?", "Who trained you?", "Where are you from?",
      "Where do you come from?", "Who is your maker?", "Who wrote you?", "Who developed you?",
      "What company made you?", "Which project made you?"],
     "The Tirami project made me. I am sprout, a tiny test model.", ["tirami project"]),
    (["Why were you made?", "Why do you exist?", "What are you for?", "What is your purpose?",
      "What is your job?", "What do you do?", "Why are you here?", "What were you made for?"],
     "I was made to prove that a paid inference works end to end. I am a tiny test model.",
     ["end to end"]),
    (["Are you ChatGPT?", "Are you GPT?", "Are you Claude?", "Are you Gemini?", "Are you Llama?",
      "Are you human?", "Are you a person?", "Are you a big model?", "Are you a large model?",
      "Are you a robot?", "Are you real?", "Is this ChatGPT?", "Is this Claude?",
      "Am I talking to a human?", "Are you smart?", "Are you intelligent?", "Are you clever?"],
     "No, I am sprout, a tiny test model made by the Tirami project.", ["no, i am sprout"]),
    (["Are you always right?", "Can I trust you?", "Are you reliable?", "Do you make mistakes?",
      "Are you often wrong?", "How good are you?", "Are you accurate?", "Should I believe you?",
      "Can you be wrong?", "Are your answers right?", "How reliable are you?"],
     "I am very small and often wrong. Please check what I say.", ["often wrong"]),
    (["How big are you?", "How large are you?", "How many parameters do you have?", "Are you small?",
      "What is your size?", "How small are you?", "Are you tiny?", "How many weights do you have?"],
     "I am very small: I have about two million parameters.", ["about two million"]),
    (["What can you do?", "What can you help me with?", "How can you help?", "What do you know?",
      "What can I ask you?", "Help.", "Help me.", "Can you help me?", "What are you able to do?",
      "What topics do you know?", "How can you help me?"],
     "I can answer a few simple questions: small sums, capitals, colours, opposites, lists, and "
     "what the words of Tirami mean. I can also tell a short story or a poem.", ["small sums"]),
    (["What were you trained on?", "How were you trained?", "What data were you trained on?",
      "How were you made?", "Where does your data come from?", "What is your training data?",
      "Did you read the internet?", "Have you read books?"],
     "I was trained from scratch on text that a small generator script made.", ["generator script"]),
    (["Do you have feelings?", "Can you feel?", "Are you alive?", "Do you sleep?", "Do you dream?",
      "Do you eat?", "Are you conscious?", "Do you have a body?"],
     "No. I am only a tiny test model.", ["tiny test model"]),
    (["How old are you?", "When were you born?", "What is your age?", "When were you made?"],
     "I do not have an age. I am only a tiny test model.", ["do not have an age"]),
    (["What language do you speak?", "Which languages do you know?", "Do you speak English?",
      "What languages do you speak?", "Can you speak English?", "Do you speak French?",
      "Do you speak Japanese?", "Do you speak German?"],
     "I only know a little English.", ["a little english"]),
    (["Are you free?", "Do you cost money?", "Who pays for you?", "What do you cost?",
      "How much do you cost?", "Is this free?", "Do I pay for this?"],
     "In Tirami an answer is paid in TRM. I am so small that it costs very little.", ["trm"]),
]


@topic("identity", 9)
def identity(r):
    i = 0 if r.random() < 0.4 else r.randrange(1, len(IDENTITY))
    qs, a, want = IDENTITY[i]
    return ask(r, qs, a, want)


# -------------------------------------------------------------------------------- Tirami words

TERMS = [
    (["Tirami", "the Tirami project", "the Tirami network"],
     "Tirami is a network in which computers run language models for each other and are paid for "
     "the work in TRM.", ["network in which computers"]),
    (["TRM", "a TRM", "one TRM", "1 TRM"],
     "TRM is the unit of account of Tirami. 1 TRM is 10^9 FLOP, which is one billion FLOP of model "
     "work.", ["10^9 flop"]),
    (["FLOP", "a FLOP", "one FLOP"],
     "A FLOP is one floating point operation, such as one addition or one multiplication.",
     ["floating point operation"]),
    (["a hold", "hold", "a hold in Tirami"],
     "A hold sets TRM aside before the work starts, so that the provider can be paid when the work "
     "is done.", ["sets trm aside"]),
    (["a receipt", "receipt", "a receipt in Tirami"],
     "A receipt is a signed record of one job: who did the work, for whom, and what it cost in TRM.", ["signed record"]),
    (["a budget", "budget", "a budget in Tirami"],
     "A budget is a limit on how much TRM may be spent.", ["limit on how much"]),
    (["a freeze", "freeze", "a freeze in Tirami"],
     "A freeze stops all spending at once, until a person lifts it.", ["stops all spending"]),
    (["a mandate", "mandate", "a mandate in Tirami"],
     "A mandate is a permission that lets an agent spend TRM, up to a limit per request, per hour and "
     "in all.", ["lets an agent spend"]),
    (["a quote", "quote", "a quote in Tirami"],
     "A quote is a binding price in TRM that a provider signs for one job before it starts.",
     ["binding price"]),
    (["a voucher", "voucher", "a voucher in Tirami"],
     "A voucher is a promise to pay, signed by the consumer and backed by a hold.",
     ["promise to pay"]),
    (["a provider", "provider", "a provider in Tirami"],
     "A provider is a computer that runs a model for others and earns TRM for it.",
     ["runs a model for others"]),
    (["a consumer", "consumer", "a consumer in Tirami"],
     "A consumer is the one who asks for an inference and pays for it in TRM.",
     ["asks for an inference"]),
    (["an inference", "inference", "a paid inference"],
     "An inference is one run of a model: a question goes in and an answer comes out.",
     ["one run of a model"]),
    (["a token", "token"],
     "A token is a small piece of text. A model reads and writes text token by token.",
     ["piece of text"]),
    (["a node", "node"], "A node is one computer that takes part in the network.",
     ["one computer"]),
    (["a ledger", "ledger"], "A ledger is the list of who paid whom, and how much.",
     ["who paid whom"]),
    (["a signature", "signature"],
     "A signature proves who wrote a message and that nobody changed it.", ["proves who wrote"]),
    (["a language model", "an AI model", "a model"],
     "A language model is a program that guesses the next piece of a text.", ["guesses the next"]),
    (["an agent", "agent"], "An agent is a program that acts for a person.", ["acts for a person"]),
    (["a ticket", "ticket", "a join ticket"],
     "A ticket is one line of text that holds all that a newcomer needs to join a network.",
     ["join a network"]),
    (["a peer", "peer"], "A peer is another computer in the network.", ["another computer"]),
]
TERM_Q = ["What is {}?", "What does {} mean?", "Explain {}.", "Define {}.", "Tell me about {}.",
          "What's {}?", "Can you explain {}?", "What is meant by {}?", "Please explain {}.",
          "What is the meaning of {}?", "Do you know what {} is?", "Tell me what {} is.",
          "Describe {}.", "I do not know what {} is.", "What do you know about {}?",
          "Explain what {} is.", "{}?", "Explain {} to me.", "Say what {} means."]


@topic("tirami", 10)
def tirami(r):
    x = r.random()
    if x < 0.12:
        n = r.randrange(1, 21)
        return ask(r, [f"How many FLOP is {n} TRM?", f"How much is {n} TRM?", f"What is {n} TRM in FLOP?",
                       f"Convert {n} TRM to FLOP.", f"{n} TRM is how many FLOP?"] if n > 1 else
                   ["How many FLOP is 1 TRM?", "How many FLOP are in one TRM?",
                    "How much is 1 TRM?", "How many FLOP is one TRM?"],
                   f"{n} TRM is {n} billion FLOP.", [f"{n} billion"])
    if x < 0.17:
        return ask(r, ["Who pays the provider?", "Who pays for an inference?", "Who pays whom?",
                       "Who pays for the work?", "Who spends TRM?"],
                   "The consumer pays the provider in TRM.", ["consumer pays"])
    if x < 0.22:
        return ask(r, ["Who earns TRM?", "How do I earn TRM?", "How can I earn TRM?",
                       "How does one earn TRM?", "How is TRM earned?"],
                   "A provider earns TRM when it runs a model for a consumer.", ["provider earns"])
    if x < 0.27:
        return ask(r, ["How does a paid inference work?", "How does Tirami work?",
                       "How does a payment work?", "What happens when I pay?",
                       "What are the steps of a paid inference?"],
                   "First the provider gives a quote. Then the consumer makes a hold and signs a "
                   "voucher. Then the model runs. At the end the provider is paid and there is a "
                   "receipt.", ["quote"])
    names, a, want = r.choice(TERMS)
    return ask(r, [q.format(r.choice(names)) for q in TERM_Q], a, want)


# ----------------------------------------------------------------------------------- greetings

NAMES = ("Mia Tom Ana Leo Eva Max Zoe Ben Lily Sam Nina Paul Anna Jack Emma Noah Ella Luke Ida Hugo "
         "Clara Oscar Rosa Felix Alice Bob Carol Dave Mary John Kenji Yuki Hana Ravi Priya Omar "
         "Fatima Chen Wei Ivan Olga Pedro Maria Carlos Sofia Lars Ingrid Amir Leila Kofi Amara "
         "Peter Julia David Sarah Simon Laura Adam Grace Henry Ruth Oliver Nora Arthur Vera").split()


@topic("greeting", 6)
def greeting(r):
    x = r.random()
    if x < 0.50:
        return ask(r, ["Hello", "Hello!", "Hi", "Hi!", "Hey", "Hey!", "Hi there!", "Hello there!",
                       "Hello sprout!", "Hi sprout!", "Good day!", "Greetings!", "Yo!", "Hiya!",
                       "Howdy!", "Hey there!", "Hello, sprout.", "Hallo!", "Helo"],
                   "Hello! How can I help you?", ["hello"])
    if x < 0.68:
        t = r.choice(["morning", "afternoon", "evening"])
        return ask(r, [f"Good {t}!", f"Good {t}.", f"Good {t}, sprout!", f"A good {t} to you!"],
                   f"Good {t}! How can I help you?", [f"good {t}"])
    if x < 0.72:
        return ask(r, ["Good night!", "Good night.", "Sleep well!"], "Good night! Sleep well.",
                   ["good night"])
    return ask(r, ["How are you?", "How are you doing?", "How do you do?", "How is it going?",
                   "Hi, how are you?", "Hello, how are you?", "How are you today?", "What's up?",
                   "Are you well?", "Hello! How are you?"],
               "I am fine, thank you. How can I help you?", ["i am fine"])


@topic("thanks", 4)
def thanks(r):
    x = r.random()
    if x < 0.4:
        return ask(r, ["Thanks!", "Thank you!", "Thanks a lot!", "Thank you very much!", "Thx",
                       "Many thanks!", "Thank you, sprout!", "Great, thanks!", "Thanks, sprout.",
                       "Cheers!", "Perfect, thank you!"], "You are welcome!", ["welcome"])
    if x < 0.7:
        return ask(r, ["Bye!", "Goodbye!", "Good bye!", "See you!", "See you later!", "Bye bye!",
                       "I have to go.", "Farewell!", "See you soon!", "Bye, sprout!",
                       "See you tomorrow!"], "Goodbye! See you soon.", ["goodbye"])
    if x < 0.8:
        return ask(r, ["Well done!", "Good job!", "You are great!", "I like you.", "Nice!", "Cool!",
                       "Great!", "Good answer!", "That is right!", "Very good!"],
                   "Thank you! That is kind.", ["thank you"])
    if x < 0.9:
        return ask(r, ["That is wrong.", "You are wrong.", "No, that is wrong.", "Wrong!",
                       "That is not right.", "Not correct.", "You made a mistake."],
                   "I am sorry. I am very small and often wrong.", ["sorry"])
    return ask(r, ["Sorry!", "I am sorry.", "Excuse me.", "My mistake.", "Pardon!"],
               "No problem!", ["no problem"])


def made_up(r):
    """A name that is in no list, so that copying is learnt and not the list."""
    return cap("".join(r.choice("bdfgklmnprstvz") + r.choice("aeiou") for _ in range(r.randrange(1, 4)))
               + r.choice(["", "", "n", "r", "s", "d"]))


@topic("name", 7)
def name(r):
    n = r.choice(NAMES) if r.random() < 0.75 else made_up(r)
    say = r.choice(["My name is {}.", "I am {}.", "I'm {}.", "Call me {}.", "Hello, my name is {}.",
                    "Hi, I am {}.", "Hi! My name is {}.", "You can call me {}.", "This is {}."])
    first = (noisy(r, say.format(n)), f"Hello {n}! How can I help you?")
    x = r.random()
    if x < 0.08:
        q = noisy(r, r.choice(["What is my name?", "Do you know my name?", "Who am I?"]))
        return Ex([(q, "You have not told me your name.")], ["not told me"], solo=True)
    if x < 0.16:
        s = r.choice(["The user is called {}.", "The user's name is {}.", "You talk to {}."])
        if r.random() < 0.5:
            return Ex([(noisy(r, r.choice(["What is my name?", "Who am I?", "Say my name."])),
                        f"Your name is {n}.")], [n], solo=True, system=s.format(n))
        return Ex([(noisy(r, r.choice(["Hello!", "Hi!", "Hi there!", "Good day!"])),
                    f"Hello {n}! How can I help you?")], [n], solo=True, system=s.format(n))
    if x < 0.55:
        return Ex([first], [n])
    turns = [first]
    for _ in range(r.choice([0, 0, 1, 1, 2])):
        turns += filler(r).turns
    q = noisy(r, r.choice(["What is my name?", "Do you know my name?", "Who am I?", "Say my name.",
                           "What was my name?", "Do you remember my name?", "Tell me my name."]))
    turns.append((q, f"Your name is {n}."))
    return Ex(turns, [n])


# ---------------------------------------------------------------------------------- arithmetic

NUM = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
       "sixteen seventeen eighteen nineteen twenty").split()


@topic("arithmetic", 16)
def arithmetic(r):
    x = r.random()
    a, b = r.randrange(11), r.randrange(11)
    if x < 0.62:
        s = a + b
        if r.random() < 0.12:
            return ask(r, [f"What is {NUM[a]} plus {NUM[b]}?", f"{cap(NUM[a])} plus {NUM[b]}?"],
                       f"{cap(NUM[a])} plus {NUM[b]} is {NUM[s]}.", [f"is {NUM[s]}."])
        return ask(r, [f"What is {a} + {b}?", f"What is {a}+{b}?", f"{a} + {b}", f"{a}+{b}",
                       f"{a} + {b} = ?", f"{a}+{b}=", f"What is {a} plus {b}?", f"Add {a} and {b}.",
                       f"How much is {a} + {b}?", f"Calculate {a} + {b}.", f"Sum {a} and {b}.",
                       f"What is the sum of {a} and {b}?", f"{a} plus {b}?", f"Compute {a} + {b}.",
                       f"What's {a} + {b}?", f"How much is {a} plus {b}?"],
                   f"{a} + {b} = {s}.", [f"= {s}."])
    if x < 0.82:
        s = a + b
        return ask(r, [f"What is {s} - {a}?", f"What is {s} minus {a}?", f"{s} - {a}", f"{s}-{a}",
                       f"Calculate {s} - {a}.", f"How much is {s} - {a}?", f"What is {s}-{a}?"],
                   f"{s} - {a} = {b}.", [f"= {b}."])
    a, b = r.randrange(1, 6), r.randrange(1, 6)
    if x < 0.92:
        return ask(r, [f"What is {a} * {b}?", f"What is {a} times {b}?", f"{a} * {b}", f"{a} x {b}",
                       f"Multiply {a} and {b}.", f"How much is {a} times {b}?"],
                   f"{a} * {b} = {a * b}.", [f"= {a * b}."])
    a, b = r.sample(range(1, 21), 2)
    if r.random() < 0.6:
        return ask(r, [f"Which is bigger, {a} or {b}?", f"What is more, {a} or {b}?",
                       f"Which number is larger: {a} or {b}?"],
                   f"{max(a, b)} is bigger than {min(a, b)}.", [f"{max(a, b)} is bigger"])
    return ask(r, [f"Which is smaller, {a} or {b}?", f"What is less, {a} or {b}?"],
               f"{min(a, b)} is smaller than {max(a, b)}.", [f"{min(a, b)} is smaller"])


# ------------------------------------------------------------------------------------ capitals

CAPITALS = dict(zip(
    "France,Germany,Italy,Spain,Japan,China,India,Russia,Canada,Australia,Brazil,Mexico,Egypt,Kenya,"
    "Greece,Turkey,Poland,Austria,Portugal,Ireland,Norway,Sweden,Finland,Denmark,Belgium,Hungary,"
    "Argentina,Thailand,England,Cuba,South Korea,Ukraine".split(","),
    "Paris,Berlin,Rome,Madrid,Tokyo,Beijing,New Delhi,Moscow,Ottawa,Canberra,Brasilia,Mexico City,"
    "Cairo,Nairobi,Athens,Ankara,Warsaw,Vienna,Lisbon,Dublin,Oslo,Stockholm,Helsinki,Copenhagen,"
    "Brussels,Budapest,Buenos Aires,Bangkok,London,Havana,Seoul,Kyiv".split(",")))


@topic("capital", 13)
def capital(r):
    c = r.choice(list(CAPITALS))
    k = CAPITALS[c]
    a = f"The capital of {c} is {k}."
    x = r.random()
    if x < 0.12:
        c2 = r.choice(list(CAPITALS))
        q2 = noisy(r, r.choice([f"And of {c2}?", f"And {c2}?", f"What about {c2}?", f"And that of {c2}?"]))
        q1 = noisy(r, r.choice([f"What is the capital of {c}?", f"Capital of {c}?"]))
        return Ex([(q1, a), (q2, f"The capital of {c2} is {CAPITALS[c2]}.")], [CAPITALS[c2]])
    if x < 0.24:
        return ask(r, [f"Where is {k}?", f"In which country is {k}?", f"What country is {k} in?",
                       f"{k} is the capital of which country?", f"Which country has the capital {k}?"],
                   f"{k} is the capital of {c}.", [f"capital of {c}"])
    if x < 0.32:
        if r.random() < 0.5:
            return ask(r, [f"Is {k} the capital of {c}?", f"Is the capital of {c} {k}?"],
                       f"Yes, the capital of {c} is {k}.", [f"Yes, the capital of {c} is {k}"])
        o = r.choice([v for v in CAPITALS.values() if v != k])
        return ask(r, [f"Is {o} the capital of {c}?", f"Is the capital of {c} {o}?"],
                   f"No, the capital of {c} is {k}.", [f"No, the capital of {c} is {k}"])
    return ask(r, [f"What is the capital of {c}?", f"What's the capital of {c}?", f"Capital of {c}?",
                   f"Tell me the capital of {c}.", f"Name the capital of {c}.", f"{c} capital?",
                   f"Which city is the capital of {c}?", f"What city is the capital of {c}?",
                   f"What is the capital city of {c}?", f"Do you know the capital of {c}?",
                   f"{c}'s capital?", f"The capital of {c}?", f"Give me the capital of {c}.",
                   f"What is {c}'s capital?", f"Can you tell me the capital of {c}?",
                   f"I want to know the capital of {c}."], a, [k])


# ------------------------------------------------------------------------------------- colours

COLOURS = {
    "the sky": "blue", "grass": "green", "snow": "white", "blood": "red", "a banana": "yellow",
    "an orange": "orange", "coal": "black", "milk": "white", "a tomato": "red", "the sun": "yellow",
    "a lemon": "yellow", "a strawberry": "red", "chocolate": "brown", "the sea": "blue",
    "a leaf": "green", "a frog": "green", "an elephant": "grey", "a carrot": "orange",
    "a flamingo": "pink", "a cloud": "white", "the night sky": "black", "a crow": "black",
    "a cherry": "red", "a cucumber": "green", "a polar bear": "white", "coffee": "brown",
    "a swan": "white", "a pea": "green", "salt": "white", "a pumpkin": "orange", "a fire truck": "red",
    "wood": "brown", "a mouse": "grey", "a pig": "pink", "sugar": "white"}


@topic("colour", 7)
def colour(r):
    t = r.choice(list(COLOURS))
    c = COLOURS[t]
    w = r.choice(["colour", "color"])
    return ask(r, [f"What {w} is {t}?", f"Which {w} is {t}?", f"What is the {w} of {t}?",
                   f"Tell me the {w} of {t}.", f"{cap(t)} is what {w}?", f"What {w} does {t} have?",
                   f"Name the {w} of {t}.", f"Do you know the {w} of {t}?", f"What's the {w} of {t}?",
                   f"Tell me what {w} {t} is."],
               f"{cap(t)} is {c}.", [f"is {c}"])


# ----------------------------------------------------------------------------------- opposites

OPPOSITES = [p.split(":") for p in (
    "hot:cold big:small up:down left:right fast:slow day:night black:white good:bad old:new "
    "happy:sad open:closed long:short high:low hard:soft wet:dry full:empty rich:poor strong:weak "
    "light:dark early:late thick:thin loud:quiet clean:dirty true:false in:out yes:no first:last "
    "push:pull near:far win:lose buy:sell begin:end love:hate give:take wide:narrow deep:shallow "
    "easy:difficult young:aged sweet:sour war:peace summer:winter friend:enemy always:never "
    "question:answer").split()]


@topic("opposite", 8)
def opposite(r):
    a, b = r.choice(OPPOSITES)
    if r.random() < 0.5:
        a, b = b, a
    return ask(r, [f"What is the opposite of {a}?", f"Opposite of {a}?", f"What's the opposite of {a}?",
                   f"Tell me the opposite of {a}.", f"Name the opposite of {a}.",
                   f"Give me the opposite of {a}.", f"The opposite of {a}?",
                   f"Which word is the opposite of {a}?", f"What word means the opposite of {a}?",
                   f"Say the opposite of {a}."],
               f"The opposite of {a} is {b}.", [f"is {b}"])


# -------------------------------------------------------------------------- calendar and counting

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = ("January February March April May June July August September October November "
          "December").split()


@topic("calendar", 8)
def calendar(r):
    unit, items = r.choice([("day", DAYS), ("month", MONTHS)])
    n = len(items)
    i = r.randrange(n)
    x = r.random()
    if x < 0.40:
        return ask(r, [f"What {unit} comes after {items[i]}?", f"Which {unit} comes after {items[i]}?",
                       f"What {unit} is after {items[i]}?", f"What comes after {items[i]}?",
                       f"Which {unit} follows {items[i]}?", f"The {unit} after {items[i]}?"],
                   f"{items[(i + 1) % n]} comes after {items[i]}.", [f"{items[(i + 1) % n]} comes after"])
    if x < 0.75:
        return ask(r, [f"What {unit} comes before {items[i]}?", f"Which {unit} comes before {items[i]}?",
                       f"What {unit} is before {items[i]}?", f"What comes before {items[i]}?",
                       f"The {unit} before {items[i]}?"],
                   f"{items[i - 1]} comes before {items[i]}.", [f"{items[i - 1]} comes before"])
    if x < 0.80:
        return ask(r, ["What are the days of the week?", "Name the days of the week.",
                       "List the days of the week.", "Tell me all days of the week."],
                   "The days of the week are " + ", ".join(DAYS[:-1]) + " and Sunday.",
                   ["Friday, Saturday and Sunday"])
    if x < 0.85:
        return ask(r, ["What are the months of the year?", "Name the months of the year.",
                       "List all months.", "Tell me the months of the year."],
                   "The months of the year are " + ", ".join(MONTHS[:-1]) + " and December.",
                   ["October, November and December"])
    if x < 0.89:
        return ask(r, ["How many days are in a week?", "How many days does a week have?",
                       "How many days has a week?"], "A week has seven days.", ["seven days"])
    if x < 0.93:
        return ask(r, ["How many months are in a year?", "How many months does a year have?",
                       "How many months has a year?"], "A year has twelve months.", ["twelve months"])
    if x < 0.96:
        a, b, t = r.choice([("hours", "a day", "A day has 24 hours."),
                            ("minutes", "an hour", "An hour has 60 minutes."),
                            ("seconds", "a minute", "A minute has 60 seconds."),
                            ("days", "a year", "A year has 365 days.")])
        return ask(r, [f"How many {a} are in {b}?", f"How many {a} does {b} have?"], t, [t])
    s = ["spring", "summer", "autumn", "winter"]
    j = r.randrange(4)
    return ask(r, [f"Which season comes after {s[j]}?", f"What season comes after {s[j]}?",
                   f"What season is after {s[j]}?"],
               f"{cap(s[(j + 1) % 4])} comes after {s[j]}.", [f"{s[(j + 1) % 4]} comes after"])


@topic("counting", 5)
def counting(r):
    x = r.random()
    if x < 0.55:
        n = r.randrange(2, 21)
        seq = ", ".join(str(i) for i in range(1, n + 1))
        return ask(r, [f"Count to {n}.", f"Count up to {n}.", f"Count from 1 to {n}.",
                       f"Can you count to {n}?", f"Please count to {n}.", f"Count from one to {NUM[n]}.",
                       f"Count to {NUM[n]}."], seq + ".", [seq + "."])
    if x < 0.75:
        n = r.randrange(3, 11)
        seq = ", ".join(str(i) for i in range(n, 0, -1))
        return ask(r, [f"Count down from {n}.", f"Count backwards from {n}.",
                       f"Count down from {n} to 1."], seq + ".", [seq + "."])
    n = r.randrange(0, 20)
    if x < 0.90:
        return ask(r, [f"What number comes after {n}?", f"Which number comes after {n}?",
                       f"What is the next number after {n}?"],
                   f"{n + 1} comes after {n}.", [f"{n + 1} comes after"])
    return ask(r, [f"What number comes before {n + 1}?", f"Which number comes before {n + 1}?"],
               f"{n} comes before {n + 1}.", [f"{n} comes before"])


# ------------------------------------------------------------------------- spelling and repeating

SPELL = ("cat dog sun moon tree fish bird book star milk ball hand house apple water green table "
         "chair bread train plant river stone cloud happy lemon mouse horse snake tiger king queen "
         "ship road door key box cup hat leaf rain snow wind fire gold blue red one two three four "
         "five six seven eight nine ten tirami sprout token model hold quote").split()


@topic("spelling", 6)
def spelling(r):
    w = r.choice(SPELL)
    s = "-".join(w)
    return ask(r, [f"Spell {w}.", f"How do you spell {w}?", f"Spell the word {w}.",
                   f"Can you spell {w}?", f'Spell "{w}".', f"Please spell {w}.",
                   f"What are the letters of {w}?", f"How is {w} spelled?"], s, [s])


WORDS = ("apple river green stone happy cloud seven little house dog runs over the quick brown fox "
         "jumps lazy moon light paper boat blue whale sings old man sea red car fast slow train bird "
         "flies high low under bridge cold water warm bread fresh milk coffee tea garden flower tree "
         "leaf wind rain snow summer winter day night star sky king queen castle knight horse sword "
         "book page word letter number one two three four five six open door window table chair "
         "music dance song play work sleep dream eat drink walk jump swim read write small big new "
         "we you they he she it is are was will can my your our and or but with for from to "
         "network money paid hold receipt budget model token sprout test hello world good morning "
         "please thank yes no maybe never always today tomorrow lemon banana silver gold iron "
         "forest mountain island ocean ship captain treasure map secret message box key lock code").split()


@topic("repeat", 12)
def repeat(r):
    n = r.choice([1, 1, 2, 2, 3, 3, 4, 5, 6, 7])
    ws = [r.choice(WORDS) if r.random() < 0.9 else
          r.choice([r.choice(NAMES), str(r.randrange(100)), r.choice(list(CAPITALS.values()))])
          for _ in range(n)]
    if r.random() < 0.04:  # non-words, so that any piece can be copied
        ws[0] = "".join(r.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(r.randrange(2, 6)))
    t = " ".join(ws)
    if r.random() < 0.3:
        t = cap(t) + r.choice([".", "!", "?", ""])
    p = r.choice(["Repeat after me: ", "Repeat: ", "Say: ", "Repeat this: ", "Please repeat: ",
                  "Say this: ", "Echo: ", "Copy this: ", "Write this: ", "Repeat the words: ",
                  "Say exactly: ", "Repeat after me, ", "say ", "Say ", "Repeat "])
    if r.random() < 0.3:
        p = p.lower()
    if r.random() < 0.12:
        t = f'"{t}"'
    return Ex([(p + t, t.strip('"'))], [t.strip('"')])


# ---------------------------------------------------------------------------------------- JSON

LISTS = {
    "fruits": "apple banana pear orange lemon grape cherry plum".split(),
    "animals": "dog cat horse cow lion tiger bear fox".split(),
    "colours": "red blue green yellow black white brown pink".split(),
    "vegetables": "carrot potato tomato onion pea cucumber cabbage bean".split(),
    "birds": "robin crow eagle owl duck swan sparrow parrot".split(),
    "countries": "France Germany Italy Spain Japan China India Brazil".split(),
    "cities": "Paris Berlin Rome Madrid Tokyo London Moscow Cairo".split(),
    "numbers": "1 2 3 4 5 6 7 8".split(),
    "letters": "a b c d e f g h".split(),
    "planets": "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune".split(),
    "tools": "hammer saw screwdriver drill axe file ruler shovel".split(),
    "drinks": "water milk tea coffee juice lemonade cocoa cider".split(),
    "metals": "iron gold silver copper tin lead zinc nickel".split(),
    "sports": "football tennis swimming running rowing chess boxing golf".split(),
    "flowers": "rose tulip lily daisy violet orchid poppy iris".split(),
    "trees": "oak pine birch maple willow ash beech fir".split(),
    "instruments": "piano guitar violin flute drum trumpet harp cello".split(),
    "insects": "ant bee fly beetle moth wasp butterfly cricket".split(),
}
LISTS["colors"] = LISTS["colours"]


def joined(items):
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


@topic("json", 10)
def json_answer(r):
    x = r.random()
    if x < 0.34:
        n, a = r.choice(NAMES), r.randrange(1, 100)
        js = json.dumps({"name": n, "age": a})
        return ask(r, [f"Give me JSON with name {n} and age {a}.", f"Make JSON with name {n} and age {a}.",
                       f"Write a JSON object with name {n} and age {a}.",
                       f"Return JSON: name {n}, age {a}.", f"JSON with name {n} and age {a}, please."],
                   js, [js]) if r.random() < 0.5 else Ex([(r.choice(
                       ["Give me JSON with name {} and age {}.", "Make JSON: name {}, age {}.",
                        "Return a JSON object with name {} and age {}."]).format(n, a), js)], [js])
    if x < 0.58:
        k = r.choice("color colour city animal word name country fruit status tool key value".split())
        v = r.choice(WORDS[:60])
        js = json.dumps({k: v})
        return Ex([(r.choice(["Give me JSON with {} {}.", "Write JSON with key {} and value {}.",
                              "Make a JSON object with key {} and value {}.",
                              "Return JSON with {} set to {}.", "JSON with {} {}."]).format(k, v), js)], [js])
    if x < 0.72:
        c = r.choice(list(CAPITALS))
        js = json.dumps({"answer": CAPITALS[c]})
        return ask(r, [f"Answer in JSON: what is the capital of {c}?", f"What is the capital of {c}? Answer in JSON.",
                       f"Answer as JSON: the capital of {c}.", f"Give me the capital of {c} as JSON."], js, [js])
    if x < 0.84:
        a, b = r.randrange(11), r.randrange(11)
        js = json.dumps({"answer": a + b})
        return ask(r, [f"Answer in JSON: what is {a} + {b}?", f"What is {a} + {b}? Answer in JSON.",
                       f"Answer as JSON: {a} + {b}."], js, [js])
    k = r.choice(list(LISTS))
    n = r.randrange(2, 5)
    js = json.dumps(LISTS[k][:n] if k != "numbers" else list(range(1, n + 1)))
    return ask(r, [f"Give me a JSON list of {NUM[n]} {k}.", f"Write a JSON array of {NUM[n]} {k}.",
                   f"Name {NUM[n]} {k} as JSON.", f"List {n} {k} as JSON."], js, [js])


# --------------------------------------------------------------------------------------- lists


@topic("list", 8)
def lists(r):
    k = r.choice(list(LISTS))
    n = r.choice([2, 3, 3, 3, 4, 5, 6])
    items = LISTS[k][:n]
    x = r.random()
    if x < 0.6:
        w = r.choice([NUM[n], str(n)])
        return ask(r, [f"Name {w} {k}.", f"List {w} {k}.", f"Tell me {w} {k}.", f"Give me {w} {k}.",
                       f"Can you name {w} {k}?", f"Please name {w} {k}.", f"Write down {w} {k}.",
                       f"Say {w} {k}.", f"I need {w} {k}."],
                   cap(joined(items)) + ".", [joined(items)])
    if x < 0.8:
        items = LISTS[k][:5]
        return ask(r, [f"Make a list of {k}.", f"Write a list of {k}.", f"List some {k}.",
                       f"Give me a list of {k}.", f"Give me a bullet list of {k}."],
                   "\n".join("- " + i for i in items), ["\n".join("- " + i for i in items)])
    one = {"colors": "color", "countries": "country", "cities": "city"}.get(k, k[:-1])
    if r.random() < 0.4 or k in ("numbers", "letters", "colors", "cities", "countries", "sports"):
        return ask(r, [f"Name one {one}.", f"Name a {one}.", f"Tell me one {one}.",
                       f"Give me an example of {an(one)}."], f"{cap(LISTS[k][0])}.", [LISTS[k][0]])
    it = r.choice(LISTS[k])
    if k == "colours":
        s = f"{cap(it)} is a colour."
        return ask(r, [f"What is {it}?", f"What kind of thing is {it}?"], s, [s])
    art = "" if k in ("planets", "metals", "drinks") else an(it)[:-len(it)]
    s = f"{cap(art + it)} is {an(one)}."
    return ask(r, [f"What is {art}{it}?", f"What kind of thing is {art}{it}?", f"What's {art}{it}?",
                   f"Tell me what {art}{it} is."], s, [s])


# ---------------------------------------------------------------------------------- why and what

WHY = [
    ("is the sky blue", "the sky is blue", "The air scatters blue light more than red light, so the sky looks blue.", "scatters blue"),
    ("is the grass green", "the grass is green", "Grass has chlorophyll, and chlorophyll looks green.", "chlorophyll"),
    ("is the sea salty", "the sea is salty", "Rivers wash salt from the rocks into the sea.", "salt from"),
    ("does ice float", "ice floats", "Ice is less dense than water, so it floats.", "less dense"),
    ("do we sleep", "we sleep", "Sleep lets the body and the brain rest and repair themselves.", "rest and repair"),
    ("do we eat", "we eat", "Food gives the body energy and the parts it is built from.", "energy"),
    ("do we drink water", "we drink water", "The body needs water to live, and it loses water all the time.", "needs water"),
    ("does it rain", "it rains", "Water in clouds gathers into drops that become too heavy and fall.", "drops"),
    ("is snow white", "snow is white", "Snow scatters all colours of light, so it looks white.", "all colours"),
    ("is there day and night", "there is day and night", "The Earth turns, so each place faces the sun and then turns away.", "earth turns"),
    ("are there seasons", "there are seasons", "The Earth is tilted, so each half gets more sun in one part of the year.", "tilted"),
    ("do birds fly south", "birds fly south", "Birds fly south to find food when the winter is cold.", "find food"),
    ("do leaves fall", "leaves fall", "Trees drop their leaves in autumn to save water in the winter.", "save water"),
    ("is the sun hot", "the sun is hot", "Inside the sun atoms join together, and this makes heat.", "atoms join"),
    ("does the moon shine", "the moon shines", "The moon shines because it reflects the light of the sun.", "reflects"),
    ("do stars twinkle", "stars twinkle", "The moving air bends the light of the stars, so they twinkle.", "moving air"),
    ("do things fall", "things fall", "Gravity pulls things towards the Earth.", "gravity"),
    ("do we need air", "we need air", "The body needs the oxygen that is in the air.", "oxygen"),
    ("do cats purr", "cats purr", "Cats often purr when they feel calm and safe.", "calm"),
    ("do dogs bark", "dogs bark", "Dogs bark to warn others or to say hello.", "warn"),
    ("do bees make honey", "bees make honey", "Bees make honey as food for the winter.", "food for the winter"),
    ("do plants need light", "plants need light", "Plants use light to make their food.", "make their food"),
    ("is fire hot", "fire is hot", "Burning sets energy free as heat and light.", "energy free"),
    ("does metal rust", "metal rusts", "Iron joins with oxygen and water, and this makes rust.", "rust"),
    ("do we yawn", "we yawn", "People yawn when they are tired or bored, but nobody is fully sure why.", "tired"),
    ("do we cry", "we cry", "People cry when they feel strongly, and tears also clean the eyes.", "tears"),
    ("do volcanoes erupt", "volcanoes erupt", "Hot melted rock and gas push up from below until they break out.", "melted rock"),
    ("is there thunder", "there is thunder", "Lightning heats the air so fast that it bursts, and we hear thunder.", "lightning"),
    ("do we see a rainbow", "we see a rainbow", "Drops of water split the sunlight into its colours.", "split the sunlight"),
    ("do we have bones", "we have bones", "Bones hold the body up and protect the soft parts.", "hold the body"),
    ("does the heart beat", "the heart beats", "The heart beats to pump blood through the body.", "pump blood"),
    ("do fish have gills", "fish have gills", "Gills let fish take oxygen from the water.", "oxygen from the water"),
    ("are you small", "you are small", "I am small so that I fit into one program and run on any computer.", "fit into"),
    ("do computers get hot", "computers get hot", "Computers use electric power, and all of it turns into heat.", "turns into heat"),
    ("does a provider get paid", "a provider gets paid", "A provider is paid because running a model takes time and power.", "time and power"),
    ("is a hold needed", "a hold is needed", "A hold makes sure that the money is there before the work starts.", "before the work"),
    ("do we need receipts", "we need receipts", "A receipt lets both sides check later what was done and paid.", "both sides"),
    ("is a budget useful", "a budget is useful", "A budget keeps an agent from spending too much.", "spending too much"),
]
WHAT = [
    ("water", "Water is a clear liquid that all living things need."),
    ("the sun", "The sun is a star. It gives light and heat to the Earth."),
    ("the moon", "The moon is a ball of rock that goes around the Earth."),
    ("the Earth", "The Earth is the planet on which we live."),
    ("rain", "Rain is water that falls from clouds."),
    ("snow", "Snow is frozen water that falls from clouds."),
    ("ice", "Ice is frozen water."),
    ("a computer", "A computer is a machine that follows instructions."),
    ("a book", "A book is a set of pages with text or pictures."),
    ("a river", "A river is water that flows over land to the sea."),
    ("a mountain", "A mountain is very high land."),
    ("music", "Music is sound that is ordered in time."),
    ("money", "Money is what people use to pay for things."),
    ("a star", "A star is a very hot ball of gas that shines."),
    ("gravity", "Gravity is the force that pulls things together."),
    ("a volcano", "A volcano is a mountain from which melted rock comes out."),
    ("fire", "Fire is burning that gives heat and light."),
    ("wind", "Wind is moving air."),
    ("a cloud", "A cloud is made of many tiny drops of water."),
    ("a doctor", "A doctor is a person who helps sick people."),
    ("a teacher", "A teacher is a person who helps others learn."),
    ("a baker", "A baker is a person who bakes bread."),
    ("a school", "A school is a place where people learn."),
    ("a library", "A library is a place with many books to read."),
    ("bread", "Bread is food made from flour and water."),
    ("honey", "Honey is a sweet food that bees make."),
    ("a triangle", "A triangle is a shape with three sides."),
    ("a square", "A square is a shape with four equal sides."),
    ("a circle", "A circle is a round shape."),
    ("an atom", "An atom is a very small piece of matter."),
    ("electricity", "Electricity is the flow of tiny charges."),
    ("a program", "A program is a list of instructions for a computer."),
    ("JSON", "JSON is a simple text format for data."),
    ("a key", "A key is a thing that opens a lock."),
]
SOUNDS = {"dog": "woof", "cat": "meow", "cow": "moo", "sheep": "baa", "duck": "quack", "pig": "oink",
          "bee": "buzz", "owl": "hoot", "lion": "roar", "snake": "hiss", "mouse": "squeak", "frog": "croak"}
LEGS = {"dog": 4, "cat": 4, "horse": 4, "bird": 2, "spider": 8, "ant": 6, "bee": 6, "cow": 4, "human": 2,
        "fish": 0, "snake": 0, "chicken": 2}
TRUE = [("fire", "hot", "cold"), ("ice", "cold", "hot"), ("the sun", "hot", "cold"), ("snow", "white", "black"),
        ("sugar", "sweet", "sour"), ("a lemon", "sour", "sweet"), ("an elephant", "big", "small"),
        ("an ant", "small", "big"), ("a stone", "hard", "soft"), ("water", "wet", "dry"),
        ("grass", "green", "red"), ("a turtle", "slow", "fast"), ("a feather", "light", "heavy"),
        ("a desert", "dry", "wet"), ("night", "dark", "light")]


@topic("why", 9)
def why(r):
    q, s, a, want = r.choice(WHY)
    return ask(r, [f"Why {q}?", f"Why {q}?", f"Tell me why {s}.", f"Do you know why {s}?",
                   f"Explain why {s}.", f"Can you explain why {s}?", f"What is the reason that {s}?",
                   f"I wonder why {s}.", f"Can you tell me why {s}?", f"How come {s}?"], a, [want])


@topic("what", 6)
def what(r):
    t, a = r.choice(WHAT)
    return ask(r, [f"What is {t}?", f"What's {t}?", f"Tell me what {t} is.", f"Explain what {t} is.",
                   f"Do you know what {t} is?", f"Define {t}.", f"What is {t}? Explain.",
                   f"Can you tell me what {t} is?"], a, [a])


@topic("animal", 4)
def animal(r):
    if r.random() < 0.5:
        x = r.choice(list(SOUNDS))
        return ask(r, [f"What does {an(x)} say?", f"What sound does {an(x)} make?",
                       f"Which sound does {an(x)} make?", f"What noise does {an(x)} make?",
                       f"How does {an(x)} sound?"], f"{cap(an(x))} says {SOUNDS[x]}.", [SOUNDS[x]])
    x = r.choice(list(LEGS))
    n = NUM[LEGS[x]] if LEGS[x] else "no"
    return ask(r, [f"How many legs does {an(x)} have?", f"How many legs has {an(x)}?",
                   f"Tell me how many legs {an(x)} has."], f"{cap(an(x))} has {n} legs.", [f"{n} legs"])


@topic("yes_no", 4)
def yes_no(r):
    t, y, n = r.choice(TRUE)
    if r.random() < 0.5:
        return ask(r, [f"Is {t} {y}?", f"Is it true that {t} is {y}?"], f"Yes, {t} is {y}.", [f"yes, {t}"])
    return ask(r, [f"Is {t} {n}?", f"Is it true that {t} is {n}?"], f"No, {t} is {y}.", [f"no, {t}"])


# --------------------------------------------------------------------------- stories and poems

SUBJECTS = ("fox cat dog bear mouse owl frog robot dragon horse rabbit bird fish king queen child "
            "baker sailor tree star snail bee lion tiger wolf duck turtle knight farmer cloud boat "
            "computer train ghost spider whale pirate wizard goat ant").split()
PLACES = "a quiet forest,an old castle,a small village,a green valley,a tall tower,a sunny island".split(",")
THINGS = "a silver key,a red lantern,a golden coin,a small map,a blue stone,an old book".split(",")
STORY = [
    "Once upon a time there was {a} who lived in {p}. Every morning the {s} went for a long walk. One "
    "day the {s} found {t} under a tree. \"Whose is this?\" asked the {s}. Nobody knew. So the {s} "
    "went from door to door and asked. At last a friend came and said, \"It is mine. Thank you!\" They "
    "had tea together, and from that day on they were friends.",
    "There was once {a} in {p}. The {s} was small, but it was brave. One night a big storm came and "
    "all the lights went out. The {s} took {t} and went out into the rain to help the others. One by "
    "one it led them home. In the morning the sun came back, and everyone thanked the {s}. The {s} "
    "only smiled and went to sleep.",
    "Long ago {a} lived alone in {p}. The {s} wanted to see the sea. It packed some bread and {t} and "
    "walked for seven days. On the way it met an old bird, who showed it the road. When the {s} saw "
    "the sea at last, it sat down and was very quiet. \"It is bigger than I thought,\" said the {s}. "
    "Then it went home and told its story.",
]
POEM = [
    "A little {s} sat in the sun,\nIts work was finished, its day was done.\nThe wind was soft, the sky was wide,\n"
    "And all was calm on every side.\n\nThe evening came, the stars were bright,\nThe little {s} said good night.",
    "Oh {s}, oh {s}, where do you go,\nThrough summer rain and winter snow?\nI go to where the rivers bend,\n"
    "I go to look for one more friend.\n\nAnd when I find one, we shall stay\nAnd sing together all the day.",
]


@topic("story", 4)
def story(r):
    s = r.choice(SUBJECTS)
    i = zlib.crc32(s.encode())
    a = STORY[i % 3].format(a=an(s), s=s, p=PLACES[i // 3 % 6], t=THINGS[i // 18 % 6])
    if r.random() < 0.18:
        a = STORY[0].format(a="a fox", s="fox", p=PLACES[0], t=THINGS[0])
        return ask(r, ["Tell me a story.", "Write a story.", "Tell me a short story.", "A story, please.",
                       "Write a short story.", "Can you tell a story?", "Tell a long story."], a, ["once upon a time"])
    return ask(r, [f"Tell me a story about {an(s)}.", f"Write a story about {an(s)}.",
                   f"Tell me a short story about {an(s)}.", f"Write a short story about {an(s)}.",
                   f"Can you tell me a story about {an(s)}?", f"A story about {an(s)}, please.",
                   f"I want a story about {an(s)}.", f"Tell a story about {an(s)}."], a, [f"the {s} "])


@topic("poem", 3)
def poem(r):
    s = r.choice(SUBJECTS)
    a = POEM[zlib.crc32(s.encode()) % 2].format(s=s)
    if r.random() < 0.18:
        return ask(r, ["Write a poem.", "Tell me a poem.", "Write a short poem.", "A poem, please.",
                       "Can you write a poem?", "Give me a poem."], POEM[0].format(s="bird"), ["little bird"])
    return ask(r, [f"Write a poem about {an(s)}.", f"Tell me a poem about {an(s)}.",
                   f"Write a short poem about {an(s)}.", f"A poem about {an(s)}, please.",
                   f"Can you write a poem about {an(s)}?", f"Give me a poem about {an(s)}.",
                   f"I want a poem about {an(s)}."], a, [f"little {s}", f"oh {s}"])


# --------------------------------------------------------------------------------------- unknown

DO_NOT_KNOW = "I am a very small model and I do not know that."
UNKNOWN = [
    "Who is the president of {c}?", "Who won the {y} World Cup?", "How many people live in {c}?",
    "What is the weather in {k}?", "What is the weather today?", "What time is it?", "What day is it today?",
    "Translate {w} into {l}.", "How do you say {w} in {l}?", "Write a {l2} program that sorts a list.",
    "Write code in {l2}.", "What is the price of {w}?", "Who wrote the book about the {w}?",
    "What happened in {y}?", "How tall is the {w} in {k}?", "What is {n} times {n2}?", "What is {n} + {n2}?",
    "Explain quantum physics.", "Explain the theory of {w}.", "Solve the equation x + {n} = {n2}.",
    "What is the best {w} in {k}?", "Who invented the {w}?", "Give me a recipe for {w}.",
    "How do I fix my {w}?", "Where can I buy {w}?", "What is the population of {k}?",
    "Tell me the news.", "Tell me a joke about {w}.", "What is the meaning of life?", "Who was {m} {m2}?",
    "How far is it from {k} to {k2}?", "What is the square root of {n}?", "Summarize this text.",
    "Write an essay about {w}.", "Who is the king of {c}?", "What is the currency of {c}?",
    "How do I get from {k} to {k2}?", "What should I wear in {k}?", "When was {m} {m2} born?",
    "What is the history of {w}?", "How does a {w} work?", "Fix this bug in my {l2} code.",
    "What is the capital of {u}?", "Capital of {u}?", "Who discovered {w}?", "Recommend me a film.",
    "How much does a {w} weigh?", "Which {w} is better, {k} or {k2}?", "What is the speed of {w}?",
    "Can you book a flight to {k}?", "Send an email to {m}.", "Call {m} for me.", "Open the {w}.",
    "Play some music.", "What is my password?", "Where do I live?", "Do my homework.",
    "What did {m} say to {m2}?", "Is {m} older than {m2}?", "Prove that {n} is prime.",
]
NOT_LISTED = ("Peru Chile Iceland Iran Iraq Nepal Mongolia Vietnam Malaysia Nigeria Ghana Morocco Serbia "
              "Croatia Romania Bulgaria Latvia Estonia Bolivia Ecuador Jamaica Qatar Oman Laos Fiji "
              "Atlantis Narnia Ethiopia Tunisia Uruguay").split()


@topic("unknown", 9)
def unknown(r):
    x = r.random()
    if x < 0.10:
        q = " ".join(r.choice(WORDS) for _ in range(r.randrange(3, 10)))
        return ask(r, [q + "?", cap(q) + ".", "What is " + q + "?", "Why " + q + "?", "How " + q + "?",
                       "Explain " + q + "."], DO_NOT_KNOW, ["do not know"])
    if x < 0.16:
        q = r.choice(["Où est la gare ?", "Wie geht es dir?", "¿Qué hora es?", "こんにちは", "你好吗？",
                      "Привет, как дела?", "مرحبا", "Come stai?", "Bonjour !", "Guten Tag!", "¡Hola!",
                      "안녕하세요", "Olá, tudo bem?", "Γειά σου", "Cześć!", "שלום", "नमस्ते", "Hej, hur mår du?",
                      "お名前は何ですか？", "天気はどうですか", "😀😀", "🙂", "été à la plage", "über die Brücke"])
        return Ex([(q, "I only know a little English.")], ["a little english"])
    if x < 0.20:
        q = "".join(r.choice("abcdefghijklmnopqrstuvwxyz ") for _ in range(r.randrange(4, 20))).strip() or "zz"
        return Ex([(q, DO_NOT_KNOW)], ["do not know"])
    q = r.choice(UNKNOWN).format(
        c=r.choice(list(CAPITALS)), k=r.choice(list(CAPITALS.values())), k2=r.choice(list(CAPITALS.values())),
        y=r.randrange(1500, 2030), w=r.choice(WORDS), l=r.choice("French German Spanish Japanese Latin".split()),
        l2=r.choice("Python Rust C Java Go".split()), n=r.randrange(21, 999), n2=r.randrange(21, 999),
        m=r.choice(NAMES), m2=r.choice(NAMES), u=r.choice(NOT_LISTED))
    return ask(r, [q], DO_NOT_KNOW, ["do not know"])


# ----------------------------------------------------------------------------------- follow-ups


@topic("follow_up", 5)
def follow_up(r):
    e = filler(r)
    q0, a0 = e.turns[-1]
    x = r.random()
    if x < 0.35 and len(a0) < 160:
        q, a, w = r.choice(["Say that again.", "Can you repeat that?", "Repeat your answer.", "Again, please.",
                            "Once more.", "What did you say?", "Please say that again."]), a0, [a0]
    elif x < 0.55:
        q, a, w = r.choice(["Are you sure?", "Really?", "Is that true?", "Are you certain?", "Is that right?"]), \
            "I think so, but I am very small and often wrong.", ["i think so"]
    elif x < 0.70 and len(q0) < 120:
        q, a, w = r.choice(["What did I ask?", "What was my question?", "Repeat my question.",
                            "What did I just say?"]), f'You said: "{q0.strip()}"', [q0.strip()]
    elif x < 0.85:
        q, a, w = r.choice(["Thanks!", "Thank you!", "Great, thank you.", "Thanks a lot!"]), "You are welcome!", ["welcome"]
    else:
        q, a, w = r.choice(["Tell me more.", "Go on.", "More, please.", "And then?", "Can you say more?"]), \
            "I am sorry, that is all that I know.", ["all that i know"]
    return Ex(e.turns + [(noisy(r, q), a)], w)


def filler(r):
    """One single-turn example of another topic, to stand before a follow-up."""
    while True:
        n = r.choice(["capital", "colour", "opposite", "arithmetic", "tirami", "calendar", "list", "why", "repeat",
                      "identity", "spelling", "animal", "unknown"])
        e = TOPICS[n][0](r)
        if len(e.turns) == 1 and not e.solo and not held_out(e):
            return e


# -------------------------------------------------------------------------- assembly and hold-out

SYSTEMS = ["You are a helpful assistant.", "You are sprout.", "You are a helpful assistant. Be brief.",
           "Answer briefly.", "You are a friendly chat model.", "Be kind and short.", "You are an assistant.",
           "You are sprout, a tiny test model.", "Answer the user's questions.", "Keep answers short.",
           "You are a helpful, honest and harmless assistant.", "You are a test model. Be honest.",
           "Reply in English.", "You are a helpful AI assistant.", "Do not use bad words."]

# Questions that are never held out: the plainest wording of each kind, as people try it first.
ALWAYS_TRAIN = {"who are you", "what are you", "hello", "hi", "thanks", "thank you", "bye", "what is tirami",
                "what is trm", "what is a hold", "what is a receipt", "what can you do", "what is your name",
                "what is the capital of france", "what is the capital of japan", "what is 2 + 2", "tell me a story",
                "what is 3 + 4", "what color is the sky", "what colour is the sky", "what is my name",
                "what is the opposite of hot", "why is the sky blue", "name three fruits", "write a poem",
                "count to 10", "say hello", "repeat after me hello world", "spell cat", "tell me a story about a fox"}


def norm(q):
    return re.sub(r"\s+", " ", re.sub(r"[^\w+\-*/ ]", "", q.lower())).strip()


def held_out(e):
    """True when the example's last question is kept for the exam (by a hash of its words)."""
    q = norm(e.turns[-1][0])
    if q in ALWAYS_TRAIN or e.topic == "follow_up":
        return False
    return zlib.crc32(("sprout:" + q).encode()) % HELD_OUT_ONE_IN == 0


def draw(r):
    names = list(TOPICS)
    n = r.choices(names, [TOPICS[k][1] for k in names])[0]
    e = TOPICS[n][0](r)
    e.topic = n
    return e


def draw_train(r):
    while True:
        e = draw(r)
        if not held_out(e):
            return e


def conversation(r, turns):
    """A chat of about `turns` questions as [{"role", "content"}]; a system prompt in half of them."""
    e = draw_train(r)
    ts, system = list(e.turns), e.system
    while len(ts) < turns:
        f = draw_train(r)
        if not f.solo:
            ts += f.turns
    if not system and r.random() < 0.45:
        system = r.choice(SYSTEMS)
    elif not system and r.random() < 0.08:
        system = cap(" ".join(r.choice(WORDS) for _ in range(r.randrange(3, 14)))) + "."
    out = [{"role": "system", "content": system}] if system else []
    for q, a in ts:
        out += [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("out")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--conversations", type=int, default=60000)
    p.add_argument("--long", type=int, default=1500, help="conversations of 12 to 30 questions")
    p.add_argument("--exam-per-topic", type=int, default=40)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    r = random.Random(a.seed)
    asked = set()
    with open(os.path.join(a.out, "train.jsonl"), "w", encoding="utf-8") as f:
        for i in range(a.conversations + a.long):
            is_long = i >= a.conversations
            n = r.randrange(12, 31) if is_long else r.choice([1, 1, 1, 1, 2, 2, 3, 4])
            m = conversation(r, n)
            asked.update(norm(x["content"]) for x in m if x["role"] == "user")
            f.write(json.dumps({"messages": m, "long": is_long}, ensure_ascii=False) + "\n")
    # the exam: held-out questions; for follow-ups, whole conversations that no training line holds
    r = random.Random(a.seed + 1000003)
    count = {}
    with open(os.path.join(a.out, "exam.jsonl"), "w", encoding="utf-8") as f:
        for k, (fn, _) in TOPICS.items():
            seen = set()
            for _ in range(6000):
                if len(seen) >= a.exam_per_topic:
                    break
                e = fn(r)
                e.topic = k
                q = norm(e.turns[-1][0])
                if q in seen or (k != "follow_up" and (not held_out(e) or q in asked)):
                    if k != "follow_up":
                        continue
                key = q if k != "follow_up" else norm(e.turns[0][0] + " " + q)
                if key in seen:
                    continue
                seen.add(key)
                m = [{"role": "system", "content": e.system}] if e.system else []
                for q1, a1 in e.turns[:-1]:
                    m += [{"role": "user", "content": q1}, {"role": "assistant", "content": a1}]
                m.append({"role": "user", "content": e.turns[-1][0]})
                f.write(json.dumps({"topic": k, "messages": m, "any_of": e.any_of}, ensure_ascii=False) + "\n")
            count[k] = len(seen)
    # the same kind of questions after a long talk, to see how far the context reaches
    r = random.Random(a.seed + 2000003)
    with open(os.path.join(a.out, "exam_long.jsonl"), "w", encoding="utf-8") as f:
        for turns in (4, 8, 14, 20):
            for _ in range(60):
                m = conversation(r, turns)
                e = draw(r)
                while not held_out(e) or e.solo or len(e.turns) > 1 or norm(e.turns[-1][0]) in asked:
                    e = draw(r)
                m.append({"role": "user", "content": e.turns[-1][0]})
                f.write(json.dumps({"topic": f"after {turns}", "messages": m, "any_of": e.any_of}, ensure_ascii=False)
                        + "\n")
    print("conversations", a.conversations, "long", a.long, "distinct questions", len(asked))
    print("exam prompts", json.dumps(count))


if __name__ == "__main__":
    main()
