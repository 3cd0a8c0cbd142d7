"""Lines that every animal can say, whatever its voice; `{name}` becomes ", Mia" or nothing.

Only what is true of a lion, an ant and a seahorse alike may stand here. No line states a fact about animals.
"""

from __future__ import annotations

from openapi_server.providers.offline.intents import Intent

PLAIN: dict[Intent, tuple[str, ...]] = {
    Intent.LOST: (
        "Stay right where you are{name}, that is the best way to be found. Tell a keeper or anyone "
        "who works here: they will help you at once.",
        "Do not run about{name}. Go to the nearest keeper or a grown-up who works here and say that "
        "you are lost. They will help you.",
    ),
    Intent.SAD: (
        "Oh, I am sorry to hear that{name}. Please tell a grown-up you trust about it. You do not "
        "have to be alone with it.",
        "That sounds hard{name}. It helps to tell a grown-up you like, maybe right now. And it is "
        "all right to feel this way.",
        "I am sorry{name}. I am only a program that speaks for an animal, but a grown-up you trust "
        "can really help. Please go and tell them.",
    ),
    Intent.SORRY: (
        "That is all right{name}. No harm done!",
        "Do not worry{name}. Everything is fine.",
    ),
    Intent.LOVE_ME: (
        "I like everyone who asks me good questions{name}, and you do!",
        "Of course! You took the time to talk with me{name}. That is what friends do.",
    ),
    Intent.LOVE: (
        "That is the nicest thing I have heard today{name}!",
        "Oh, thank you{name}! I am very glad that you came to talk to me.",
        "How kind of you{name}! You have made my day.",
    ),
    Intent.COMPLIMENT: (
        "Thank you{name}! I shall remember that all day.",
        "How kind of you to say so{name}!",
        "Why, thank you{name}! You have a good eye.",
    ),
    Intent.INSULT: (
        "That was not very kind, but I am not cross. Shall we start again{name}?",
        "Hm. I would rather be friends{name}. Ask me something, and I will do my best.",
        "Words can sting a bit. Let us talk about something nicer{name}.",
    ),
    Intent.PET: (
        "I like your friendly thought{name}, but visitors stay on their side. That keeps both of us safe and calm.",
        "Only my keepers come close to me{name}. Looking and waving is fine, though!",
    ),
    Intent.FEED: (
        "That is kind{name}, but please do not feed me. My keepers know exactly what is good for me.",
        "Only my keepers may feed me{name}. The wrong snack could make me ill.",
    ),
    Intent.TOILET: (
        "Quick{name}, ask a grown-up or a keeper: they will show you the way to the toilets!",
        "The nearest keeper can show you where the toilets are{name}. Off you go!",
    ),
    Intent.VISIT_INFO: (
        "I do not know that, because I never leave my home. Please ask one of the keepers or the "
        "people at the entrance.",
        "That is a question for the people who work here{name}. Any keeper or the desk at the entrance can tell you.",
    ),
    Intent.ERRAND: (
        "That is a matter for people{name}, and I am only an animal. A keeper or a grown-up you trust can help you.",
        "There I cannot help you myself{name}. Please ask a keeper or another grown-up: they know how it is done.",
        "I wish I could{name}, but that takes a person. The people who work here will know whom to ask.",
    ),
    Intent.MY_BIRTHDAY: (
        "Happy birthday{name}! I hope that you have a wonderful day.",
        "Hooray, happy birthday{name}! Three cheers for you from all of me.",
    ),
    Intent.LAUGH: (
        "I am glad that you liked it{name}!",
        "It is lovely to hear you laugh{name}!",
        "Laughing together is the best part of my day{name}.",
    ),
    Intent.YUCK: (
        "Oh, it is all quite natural{name}!",
        "You should see your face{name}! To me it is the most normal thing in the world.",
    ),
    Intent.WOW: (
        "I am glad that you like it{name}!",
        "Yes, I am rather proud of it{name}.",
        "It surprises many visitors{name}!",
    ),
    Intent.NO: (
        "That is fine{name}. Then you choose what we talk about!",
        "All right{name}! Is there something else you would like to know?",
        "No problem{name}. Ask me whatever you like.",
    ),
    Intent.YES: (
        "Good{name}! What would you like to know about me?",
        "Lovely{name}! Then ask me anything.",
        "I am glad{name}. What shall we talk about next?",
    ),
    Intent.NONSENSE: (
        "Hm, I do not know that word{name}. Is it a secret language?",
        "That made my head spin{name}! Can you say it in other words?",
        "I think something walked over your keyboard{name}. Was it another animal?",
    ),
}

EMOJI = (
    "I see a little picture{name}! I cannot draw one back, but I am happy that you are here.",
    "That is a nice sign{name}! Now tell me in words: what would you like to know?",
    "I only understand words{name}, but I think that was friendly. Ask me something!",
)
QUIET = (
    "I am listening{name}! What would you like to know?",
    "Take your time{name}. You can ask me anything you like.",
)
REAL = (
    "Honestly{name}? {disclosure} The facts come from my keepers, and the real {animal} lives in the zoo.",
    "No tricks{name}! {disclosure} What I tell you comes from the keepers of the real {animal}.",
)
WHO = (
    "I am {animal}, {a_species}{name}! My home in the zoo is {home}.",
    "My name is {animal}{name}, and I am {a_species}. My keepers say that I am {character}.",
)
NICE_TO_MEET = (
    "Nice to meet you{name}! I am {animal}.",
    "What a fine name! Hello{name}, I am {animal}.",
    "I am pleased to meet you{name}. You can call me {animal}.",
)
KNOWN_NAME = ("You are {visitor}! You told me so yourself.", "Your name is {visitor}. I have not forgotten!")
UNKNOWN_NAME = (
    "You have not told me yet. What shall I call you?",
    "I do not know it yet! Your first name is all I need, if you like to tell me.",
)
INTRODUCTION = "I am {animal}."
AGE = (
    "{Age}! That is a very good age{name}.",
    "{Age}? Then you are just the right age for good questions{name}!",
)
BORN = (
    "I was born on {born}, at {birthplace}. Can you work out how old that makes me{name}?",
    "My birthday is {birthday}. I was born in {year}, so now you can work out my age{name}!",
)
FAVOURITE = {
    "food": ("My favourite food is {it}!", "There is nothing better than {it}!"),
    "game": ("My favourite game is {it}.", "I never get tired of {it}."),
    "colour": ("My favourite colour is {it}.", "I like {it} best of all colours."),
    "place": ("My favourite place is {it}.", "There is no better place than {it}!"),
    "friend": ("My best friend is {it}.", "That is easy: {it}!"),
    "time": ("My favourite time is {it}.", "The best time of all is {it}."),
}
FAVOURITE_UNKNOWN = ("I have never picked a favourite {what}. But I can tell you my favourite {kind}: {it}!",)
BOY_OR_GIRL = {
    "male": ("I am a boy{name}, a male {species}.", "I am a he{name}!"),
    "female": ("I am a girl{name}, a female {species}.", "I am a she{name}!"),
}
HOME = ("My home in the zoo is {home}.", "Look for {home}. Come and wave to me{name}!")
COME_HOME = (
    "I stay at home in the zoo{name}, but you can come and see me. My home is {home}.",
    "My place is here{name}, and you are always welcome to look at me! My home is {home}.",
)
SOUND = ("Here it comes: {sound}", "Only for you{name}: {sound}")
PLAY = (
    "I can only play with words here{name}. Let us play questions and answers: you begin!",
    "With you I play with words{name}! Ask me the hardest question you have.",
)
BORED = ("Then let me cheer you up{name}! {joke}", "Bored{name}? Not with me! {joke}")
WHAT_CAN_I_ASK = (
    "You can ask me {first}, {second} or {third}.",
    "Ask me {first} or {second}! Or would you rather know {third}?",
    "I know a lot about {animal}: {first}, {second}, {third}, and more.",
)
JOKE_EXPLAINED = ("It is only a joke{name}! Jokes stop being funny when I explain them.", "Just for fun{name}!")
OTHER_ANIMAL = (
    "I can only speak for my own kind{name}. If there is {an_animal} in our zoo, go and ask it: it knows best!",
    "You had better ask {an_animal} about that{name}! I only know about animals like me.",
)
REMARK = (
    "Thank you for telling me{name}!",
    "I like hearing from you{name}!",
    "Is that so{name}? I only know about my own life, but I like to listen.",
)
REALLY = ("Yes, really!", "It is true!", "Yes, I am sure!", "My keepers wrote it down, so yes!")
LOOK_IT_UP = ("You can look it up here: {title}.", "My keepers have it from here: {title}.")
AS_FAR_AS_I_KNOW = ("As far as I know, yes{name}!", "I never fib{name}.")
NO_REASON = ("Why that is so, I do not know.", "I cannot tell you the reason.")
AS_I_SAID = ("As I said:", "Just as I told you:", "I will gladly say it again:")
ALL_TOLD = ("That is all I know about it{name}.", "Now you know as much about that as I do{name}.")

TOPIC_OFFER = ("Would you like to know {topic}?", "Shall I tell you {topic}?", "You could ask me {topic}.")
TOPIC_OFFERS = {
    "diet": "what I eat",
    "speed": "how fast I am",
    "size": "how big I am",
    "habitat": "where my kind lives",
    "family": "about my family",
    "babies": "about our babies",
    "sleep": "how I sleep",
    "senses": "how I see and hear the world",
    "body": "about my body",
    "predators": "who my enemies are",
    "poo": "about my poo",
    "record": "what is surprising about me",
    "zoo_life": "about my day in the zoo",
    "defence": "how I defend myself",
    "weather": "how I cope with heat and cold",
    "lifespan": "how old we can get",
}
