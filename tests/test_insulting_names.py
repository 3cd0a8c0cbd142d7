"""What is an insult is not taken for a name, and what is somebody's name is."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.insulting_names import has_insulting_word, is_insulting_name

INSULTS = """
Fuckface Fuck Fucker Fvckface Phuckface Fuuuck Fuuuuckface Fukface Fuckhead Motherfucker FUCKFACE fUcKfAcE Fuck-Face
Fückface Ƒuckface Ｆｕｃｋ Ｆｕｃｋｆａｃｅ Fuсkface Fцckface F\u0301uckface
Shit Shithead Shitface Shit-Face Bullshit Asshole Arsehole Asshat Assface Dickhead Dickface Dick-Head Cuntface Cunt
Bitch Bitchface Bitchy Wanker Twat Slut Slutface Whore Bastard Pissface Poop Poopface Poophead Poopy Poo Buttface
Butthead Farthead Fartface Penis Penisface Vagina Cocksucker Pussy Boobs Boobies Tits Nigger Nigga Faggot Retard
Hitler Nazi Satan Idiot Moron Dumbass Stupid Stupidface
Arschloch Arschgesicht Wichser Hurensohn Fotze Schlampe Ficker Scheisse Scheiße Scheißkopf Missgeburt Trottel
Putain Connard Salope Merde Puta Puto Mierda Pendejo Cabron Cabrón Gilipollas Cazzo Stronzo Puttana Vaffanculo
Kurwa Klootzak Caralho Siktir Orospu Chutiya Блядь Хуй Пизда Сука Мудак ばか 傻逼 씨발
Handjob Rape Jizz Cumshot Scrotum Clit Testicle Foreskin Semen Nude Buttplug Hentai Kunt Shyt Biotch Azzhole
Фuck Paki Wog Coon Gook Raghead Wetback Jewboy Golliwog Niggah Neger Spic Gypsy Adolf Himmler Goebbels Gestapo
Holocaust Kkk Isis Binladen Drecksau Fettsau Miststueck Cyka Blyat Suka Kurva Coño Pinche Minchia Phuck Fucc
Fuckk Phukk Fuker Fukker Fock Fuq Fvck Fuhk Shiit Shitt Shiet Sh1t Siht Bytch Beatch Beeyatch Biyatch Cuhnt
Cvnt Kuntface Diickhead Dikhead Dikface Cok Kok Cawk Kock Cokk Penus Peniz Peenis Pen15 Vajina Vagine Vagyna
Vulva Boobz Tittiez Titz Assh0le Azhole Ashole Arsehol Asswipe Wanka Wankstain Twatwaffle Hoebag Slutbag Slutt
Whoar Hoar Whorebag Cumdumpster Cumface Spermface Jizzface Dildohead Dildoface Rapist Rapeface Molester
Pedophile Paedo Pedo Nonce Incest Porn Pornstar Milf Dilf Orgasm Erection Boner Nipple Tiddies Anal Anus
Rectum Fisting Rimjob Blowjob Deepthroat Bukkake Gangbang Creampie Niger Nigglet Nig Kike Chink Chinky
Zipperhead Gypo Gyppo Pikey Tranny Fagot Phaggot Faggit Fagg Dyke Lesbo Homo Reetard Retart Spaz Mong Cripple
Midget Hitlar Hittler Heilhitler Siegheil Natzi Goering Mengele Mussolini Stalin Taliban Jihad Jihadi Alqaeda
Osamabinladen Terrorist Lucifer Heroin Cocaine Crackhead Meth Weed Fozze Fotzenkopf Arshloch Wixer Hurenson
Huansohn Nutte Nuttensohn Spast Spasti Kanake Pimmelkopf Kackbratze Scheisskerl Schwuchtel Pute Enculé Encule
Batard Negro Nique Bite Couille Putita Zorra Maricon Verga Polla Chinga Joto Culo Troia Figa Frocio Buceta
Foda Viado Porra Piroca Amk Yarrak Göt Ibne Piç Chuj Pizda Jebac Cipa Dupa Pidor Pidoras Mudak Huy Khuy Ebat
Zalupa Shluha Pizdets Пидор Madarchod Bhenchod Gandu Bhosdike Harami Sharmuta Kuss Kosomak Zebi Kahba Khara
Anjing Kontol Memek Malaka Poutana Kuk Fitta Perkele Vittu Kut Hoer
""".split()
NAMES = """
Dick Fanny Randy Randi Cox Willy Willie Gay Gaylord Rod Roger Johnson Peter Dong Phuc Phuong Bich Fuk Long Wang Yu
Ishita Harshit Nishit Rushit Shital Shitara Akashi Yoshitaka Fukumi Fukue Assa Assunta Cassandra Bassam Hassan Massimo
Poppy Pip Pippa Penny Penelope Pia Regina Virginia Cockburn Cocoa Titus Tita Titi Kitty Bitsy Butch Buttercup Analia
Ana Anali Annal Ruth Osama Lenin Jesus Mohammed Mia Leo Ben Zoé Seán Иван Анна Оксана
Ximena Xochitl Nguyen Aziz Cumali Semyon Dikla Dikembe Dicky Arsen Arsenio Arshad Wee Wei Kun Kuntal
Kaka Kiki Lulu Lul Nut Knut Hoshi Dude Bud Buddy Sexton Essex Lovelace Hooker Dumbledore Moro Foti Sik Schlomo
Marie-Claire Anna-Maria Jean-Luc Mary-Jane Björn Łukasz Đorđe Ωmega はな 陳 지민
Dixie Assia Analise Kumar Hancock Peacock Hitchcock Dickens Spicer Lennon Osama Usama Aryan Declan Nigel Nigar Booker
Pooja Bobby Debora Sukie Sasha Piotr Kurt Jesús Shitoshi Wilcox Anthony-Gabriel Li-Ching Семён Сава Васко
""".split()
# First names of 78 countries and regions.
ORDINARY_NAMES = """
Səlimə Telman Elnur Qəzənfər Rəna Гвоздейка Толек Панделис Карло Евстатий অমল ইমন আজম Aneta Blažena Stanislav
Peter Ester Ole Janni Ulla Michala Tanja Cecilia Florin Melina Annalena Ronya Pascale Amy Ekrem Ingo Metin
Anni Kay-Uwe Ehrenfried Swantje Ernestine Mavie Afra Mari Yassin Maxima Léandre Marylène Firmin Frederick
Tanguy Ρίζος Βησσαρία Γλαύκη Ιάκωβος Μηνάς Trinidad Rashaan Burke Dedric Caesar Bethan Jemma Iain Kirsty
Graeme Amy-Lee Eamonn Siofra Fionntan Caomhan Bimala Maanas Nisha Nimrat Dalaja Kilonzo Austine Mugambi Isack
Dianah Comfort Peace Blessing Glenys Warwick Neville Tamati Wiremu Jaan Aazim Nail Eijaz Loot Chayanin
Kodchaporn Sarunporn Chalisa Pintusorn Juan-Gabriel Joaquina Julieta Ambar Luisana María-Teresa Núria Arnau
Pau José-María Eleazar Isaías Fiorella César Román Sindy Esneider Julieth Yeferson Yolima Eusebia Jose-Luis
Ana-Belén Amarilis Sancho Anel Jorge-Luis Aldonza José-Eduardo Zeferino Kadri Ene Andrus Urmas Jekaterina
Olavi Aleksi Erkki Raija Aada Thibault Eléa Mathys Leïla Naïm Éléonore Édith Pénélope Édouard Étienne Fouzia
Hayat Oussama Yousra Hadjer Aimée Luce Philippine Aimé Margaud Breege Breeda Blathnaid Ailish Averil કરણ ધવલ
અજય કમલ Sani Danjuma Sumayya Bello Shamsuddeen धवल सरल कमल अकबर अमर Andrija Saša Davor Lovro Đuro Antal Tímea
Boglárka Tünde Barnabás Հուսիկ Արմենուհի Կարոլին Սերգեյ Մինաս Hendra Bakiman Umay Eman Limar Emeka Ebuka
Obianuju Chinyere Ujunwa Sæný Arnfinna Alanta Kveldúlfur Aðalsteinn Giampaolo Ermenegildo Agostino Pina Giosuè
Osamu Yuki Yoko Yui Yumiko მარია ანა გოდერძი შაქრო ნუკრი Rugilė Ričardas Ignė Aurelija Aušra Visvaldis Alberts
Arvīds Aleksandrs Līza Јасмина Гоце Анета Драгана Јован नरपल अजय पवन अनक रमण Antoon Seppe Toon Gabriël Gustaaf
Fem Bibi Tijmen Merijn Ninthe Sindre Terje Odd Wenche Aud ସଦନ ଅଭୟ ସମଲ ସନତ ଶଇବ Maks Tola Natasza Róża Malwina
Calebe Lavínia João-Lucas Laís Otávio Soraia Naiara Ângela Tomé Dinis Irinel Ionela Amedeu Ioana Iuliana
Дементий Наркис Ферапонт Никифор Лавр කළණ අචල උදය Alfonz Viliam Imrich Ružena Henrich Blaž Avgust Damijan
Domen Uroš Ing-Britt Gillis Idun Owe Ann-Marie Waridi Popobawa Sifa Makini Panya உலக หรรษา นารดา กฤตพร พรรณปพร
โกมล Rumeysa Tunçboğa Limon Döner Münezzer Abena Gifty Baaba Akua Kujoe Сергій Єва Віолетта Ігор Наталія
Shahzoda Bobur Doniyor Anvar Omina Xuân Thành Hồng Linh Minh Yejide Ibidapo Tomori Yewande Adetoun Qiang Jing
Ping Xiulan Chao SHU-FANG CHIH-HAO HUI-MEI I-HSUAN MING-TE Nomalanga Mthokozisi Sphiwe Thando Thembeka
""".split()


@pytest.mark.parametrize("name", INSULTS)
def test_an_insult_is_no_name(name: str) -> None:
    """Whatever its case, script and spelling, and with look-alike letters, letters drawn out or a hyphen."""
    assert is_insulting_name(name)
    assert is_insulting_name(name.upper())
    assert has_insulting_word(f"My name is {name}!")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_looks_like_an_insult_is_a_name(name: str) -> None:
    assert not is_insulting_name(name)


def test_ordinary_names_of_many_countries_are_names() -> None:
    assert len(ORDINARY_NAMES) > 300
    assert [name for name in ORDINARY_NAMES if is_insulting_name(name)] == []


@pytest.mark.parametrize(
    "text",
    [
        "What does a blue tit eat?",
        "Do lions bite?",
        "Can an ass run fast?",
        "How do piranhas cut meat?",
        "A gypsy moth",
    ],
)
def test_an_ordinary_word_in_a_sentence_is_no_insult(text: str) -> None:
    """So that titles may quote it; said to be a name, it is one."""
    assert not has_insulting_word(text)


@given(st.text(max_size=40))
def test_any_text_is_legal(text: str) -> None:
    assert is_insulting_name(text) in (True, False)


def test_long_texts_take_linear_time() -> None:
    started_s = time.process_time()
    for text in ("u" * 4_000, "ab" * 2_000, "a-" * 2_000, "fu" * 2_000):
        has_insulting_word(text)
    assert time.process_time() - started_s < 1
