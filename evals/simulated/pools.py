"""Names that values are made of, for each split its own: what is said in training is never said in a test case.

Training has by far the most, so that a model learns to copy what it reads and not to know it by heart.
"""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
"""What cases are for: training, choosing between settings, and what is reported."""

FIRST: dict[Split, str] = {
    "train": "Ana Jon Mira Theo Lena Omar Ines Paul Vera Hugo Nadia Carl Rosa Emil Tara Otto Lucia Sven Greta Ivan "
    "Abel Ada Aiko Alba Alicia Andrei Anouk Arjun Astrid Ayla Basil Bea Boris Camille Cedric Celia Cyrus Dana Daphne "
    "Diego Dina Edgar Eike Elena Elias Eloise Emre Enzo Esther Fabian Farah Felix Fiona Gaspar Gina Gregor Hana Harold "
    "Helga Henrik Ida Igor Ilse Irena Isaac Jamila Jana Jasper Joana Jonas Judith Kamil Karim Katya Kira Lars Leila "
    "Leopold Lidia Linus Luca Magda Malik Marek Marta Max Milo Mina Moritz Nicole Nikolai Nils Nina Oskar Pavel Petra "
    "Philippa Quentin Rachel Rafael Ramon Rania Renate Rita Ruben Sabine Salma Sara Selim Simone Stefan Stella Tariq "
    "Thea Tomas Ulrich Ursula Valentin Viktor Wilma Xenia Yara Yusuf Zeno",
    "dev": "Elif Bruno Sofie Kofi Amina Rolf",
    "test": "Yuki Priya Mateo Freya Samir Olga Dario Wanda Bilal Chloe Anders Zofia Kenji Noor",
}
LAST: dict[Split, str] = {
    "train": "Ruiz Hale Novak Berg Costa Lind Marek Dunn Vogel Silva Brandt Keller Moss Petrov Wirth Aldea Frost "
    "Abbott Acosta Albrecht Amato Arslan Barrow Bauer Becker Bianchi Blanc Borg Brennan Bueno Calder Castro Cheng "
    "Conti Crane Dahl Delgado Drummond Duarte Eckhart Ekman Engel Estrada Faber Farkas Ferro Finch Fischer "
    "Flores Gallo "
    "Garza Gerber Goldberg Graf Greco Hartmann Hassan Hayes Herrera Hoffman Horvath Huber Ibarra Jansen "
    "Jordan Kaminski Kaya "
    "Khan Klein Kovacs Kruger Laurent Leclerc Leitner Lemaire Lorenz Lovell Madsen Maier Marino Mercer Molina Moreau "
    "Navarro Nguyen Noble Nowak Ochoa Olsen Ortega Osman Palmer Pereira Pfeiffer Popescu Prieto Quinn Rahman Reyes "
    "Richter Rojas Romero Rossi Sandberg Santos Sato Schmidt Schwarz Sharma Simic Sorensen Stein Strand Thorne Toth "
    "Ulrich Valdez Vargas Virtanen Wagner Walsh Weber Winter Wolff Yilmaz Zamora Zeller",
    "dev": "Aydin Mensah Holm Rinaldi Krause",
    "test": "Tanaka Okafor Lindqvist Moretti Haddad Szabo Fontaine Bakker Iyer Nilsen Quispe Warren",
}
HOSTS: dict[Split, str] = {
    "train": "mail.example corp.example uni.example works.example club.example shop.example home.example net.example "
    "studio.example clinic.example city.example farm.example lab.example school.example",
    "dev": "post.example",
    "test": "inbox.example",
}
POOLS: dict[str, dict[Split, str]] = {
    "city": {
        "train": "Lisbon Oslo Vienna Bremen Lyon Turin Porto Ghent Riga Zagreb Malaga Leeds Basel Gdansk Bergen Cork "
        "Aachen Aberdeen Adelaide Alicante Antwerp Athens Austin Bari Belfast Bilbao Bologna Boston Brno Bruges "
        "Calgary Cardiff Catania Cologne Cordoba Dakar Dallas Delft Denver Dijon Dresden Dublin Dundee Erfurt "
        "Essen Exeter "
        "Florence Geneva Genoa Girona Glasgow Graz Grenoble Halifax Hanover Havana Helsinki Hull Ipswich Jena Kassel "
        "Kiel Krakow Lausanne Leipzig Lille Lima Linz Lucerne Lund Madrid Mainz Manila Marburg Metz Mexico Milan Minsk "
        "Mombasa Munich Nairobi Nice Odessa Ottawa Oviedo Oxford Padua Palermo Parma Pisa Plymouth Poznan Prague "
        "Quebec Quito Reims Rennes Rostock Rouen Salzburg Santander Seattle Sendai Seville Siena Sofia Split Stuttgart "
        "Tallinn Tartu Tirana Toledo Trieste Tunis Uppsala Valencia Venice Vigo Vilnius Warsaw Weimar Winnipeg York "
        "Zurich",
        "dev": "Izmir Accra Aarhus Verona Trier",
        "test": "Osaka Lagos Malmo Naples Amman Szeged Nantes Utrecht Pune Bodo Cusco Tampa",
    },
    "topic": {
        "train": "budget,hiring,garden,safety,archive,roadmap,winter sale,harbour,first aid,water,chess,night shift,"
        "recycling,paint,inventory,solar,training,fire drill,newsletter,lighting,algebra,architecture,astronomy,"
        "autumn fair,baking,ballet,beekeeping,book club,canoe,carpentry,choir,circus,cleaning,climbing,compost,cycling,"
        "debate,diving,drainage,embroidery,energy,exhibition,family day,fencing,fishing,flood,forest,geology,glass,"
        "handball,heating,history,holiday,insulation,jazz,judo,kite,knitting,lantern walk,laundry,law,leather,"
        "logistics,meadow,metalwork,museum,music,noise,nutrition,open day,opera,orchard,origami,parking,payroll,"
        "photography,"
        "physics,plumbing,poetry,privacy,quiz night,radio,repairs,robotics,rowing,security,sewing,signage,skating,"
        "snow,soup kitchen,spring clean,storage,summer camp,swimming,tango,tennis,theatre,tower,traffic,transport,"
        "travel,veterans,violin repair,volleyball,welcome day,welding,wildlife,woodland,yoga,youth",
        "dev": "pottery,statistics,sailing,grammar,first violin",
        "test": "dentist,tax return,tyre change,election,volcano,piano lesson,passport renewal,railway strike,"
        "harvest,comet,ferry,vaccination,marathon",
    },
    "item": {
        "train": "blue valve,copper wire,desk lamp,oak shelf,steel bolt,paper roll,glass jar,rubber seal,wool blanket,"
        "brass hinge,canvas bag,clay pot,cork board,filter,garden hose,ladder,air pump,anvil,apron,armchair,axle,"
        "backpack,bandage,barrel,battery pack,bell,bench,birch plank,brush,bucket,cable drum,candle,carpet,chain,"
        "chisel,clamp,coat rack,compass,cooking pan,crate,curtain,cushion,drill,easel,extension cord,fan,felt hat,"
        "first aid box,flag,flask,folding table,frame,funnel,gear wheel,gloves,hammer,handle,headphones,helmet,hook,"
        "keyboard,lantern,lever,linen sheet,mirror,monitor,net,notebook,oil can,padlock,pallet,pipe,pliers,plough,"
        "printer,projector,pulley,rake,ribbon,rope,router,rug,saddle,safety vest,saw,scarf,screen,shovel,silver tray,"
        "sled,socket,spring,stamp,stool,stove,suitcase,tarpaulin,teapot,tent,tile,tripod,trolley,umbrella,vase,"
        "wheelbarrow,whistle,wooden box,wrench",
        "dev": "fig tree,lavender,blue fern,tomato,mint",
        "test": "quartz lens,magnet,pipette,beaker,centrifuge rotor",
    },
    "place": {
        "train": "the old mill,Station Square,the north gate,Linden Park,the town hall,Mill Lane,the city library,"
        "the swimming pool,Harbour Street,the bus depot,the bakery,the boat house,Bridge Road,Cedar Avenue,the chapel,"
        "the east stand,Elm Court,the fire station,the fish market,Garden Row,the granary,the grove,Hill Farm,"
        "the hospital,the ice rink,the island pier,King Square,the lower dam,Maple Street,the market hall,the museum,"
        "North Field,the observatory,Orchard Lane,the playground,the post office,Queen Street,the quarry,River Walk,"
        "the school yard,South Dock,the stadium,the tannery,the tram stop,Union Road,the upper lock,the vineyard,"
        "West Yard,the windmill,the zoo",
        "dev": "the lighthouse,Castle Hill",
        "test": "the opera house,Fort Nine,the glass bridge,the clock tower,Tiger Temple,the wax museum,Pier Seven",
    },
    "venue": {
        "train": "Red Door,Old Harbour,Green Fork,Amber Room,Black Swan,Brick Oven,Cedar Lodge,Corner House,Crown,"
        "Five Oaks,Gold Anchor,Grey Goose,Half Moon,Hazel Inn,Iron Gate,Little Bear,Long Table,Mill Pond,Olive Tree,"
        "Orange Cat,Pine Hall,Quiet Corner,River View,Rose Cellar,Seven Steps,Tall Ship,White Barn,Wild Thyme",
        "dev": "Three Lamps,Silver Spoon",
        "test": "Blue Heron,Stone Garden,Lantern House,Copper Kettle,Paper Moon,Ninth Wave,Salt Cellar",
    },
    "company": {
        "train": "Norvik,Altrex,Agrona,Belmar,Cortana Foods,Datwin,Eurocast,Fennel Works,Gravix,Hollis Paper,Inverta,"
        "Jadewell,Karst Mining,Lumio,Medora,Nexbridge,Orbisoft,Pandrel,Quillon,Rivermark,Solteg,Tamrock,Unison Rail,"
        "Vantora,Westlake Glass,Xylem Tools,Yarrow Bank,Zentak",
        "dev": "Tessal,Morun",
        "test": "Quandor,Helvia,Brightmoor,Zelkon,Ostrava Steel,Palmyre",
    },
    "cuisine": {
        "train": "Greek,Thai,Italian,Indian,French,Mexican",
        "dev": "Turkish,Danish",
        "test": "ramen,Lebanese,Peruvian,vegan,Korean",
    },
    "condition": {
        "train": "dry,humid,windy,clear,icy,snowy",
        "dev": "hazy,mild",
        "test": "cloudy,sunny,rainy,foggy,stormy",
    },
}
"""Names of a kind. The kinds of WORDS are added for training alone."""
WORDS: dict[str, str] = {
    "level": "low,normal,high,urgent,minor,major,critical",
    "state": "open,closed,waiting,blocked,planned,running,paused,finished,approved,rejected,on hold,in review",
    "colour": "red,green,navy,white,black,yellow,orange,purple,grey,brown,pink,beige,turquoise,crimson",
    "language": "English,German,Spanish,French,Polish,Dutch,Czech,Greek,Swahili,Hindi,Arabic,Finnish,Welsh,Basque",
    "country": "Spain,Norway,Chile,Kenya,Canada,Poland,Vietnam,Ireland,Morocco,Austria,Uruguay,Estonia,Ghana,Iceland",
    "size": "small,medium,large,extra large,narrow,wide",
    "animal": "Bella,Rocky,Luna,Simba,Coco,Daisy,Ginger,Pepper,Shadow,Biscuit,Nero,Olive,Maple,Tiger,Whiskers,Zorro",
    "role": "admin,editor,viewer,guest,auditor,owner,tester,developer,nurse,cashier,guard,driver",
    "material": "oak,steel,cotton,wool,granite,copper,leather,bamboo,linen,concrete,silk,brass",
    "weekday": "Monday,Tuesday,Wednesday,Thursday,Friday,Saturday,Sunday",
    "subject": "biology,chemistry,drawing,economics,ethics,geography,Latin,logic,maths,religion,sport,singing",
    "illness": "a cough,back pain,a fever,a sprained ankle,a rash,migraine,hay fever,a cut finger,dizziness,asthma",
    "project": "atlas,beacon,cobalt,dynamo,ember,falcon,glacier,helix,indigo,juniper,kepler,lotus,mosaic,nimbus,orion",
    "dish": "lentil soup,apple pie,mushroom risotto,fish stew,carrot cake,bean salad,onion tart,rice pudding,goulash,"
    "pea soup,plum crumble,potato gratin,spinach quiche,walnut bread,pumpkin curry,rye bread",
    "song": "Slow River,Paper Boats,Winter Coat,Golden Hour,Left Behind,Two Trains,Sugar Hill,Stone by Stone,Ashes,"
    "Late Bloom,No Return,Hollow Tree,Bright Side,Northern Line",
}
"""Names of kinds that only training has."""
ADJECTIVES = (
    "amber basic bright broken central cheap cold double dry early east empty extra fine flat fresh front green heavy "
    "inner large late light linen little local long lower main mobile narrow new north old open outer plain portable "
    "private quick quiet rear red round second short silver simple small soft south square steel striped tall thick "
    "thin third tiny upper urgent used warm west white wide wooden yellow"
)
"""What is put before a topic or an item in training, so that there are thousands of them."""
TEXTS: dict[Split, tuple[str, ...]] = {
    "train": (
        "the {item} is ready",
        "please bring the {item}",
        "we start with {topic}",
        "thank you for the {item}",
        "the {item} has to be repaired",
        "do not forget the {item}",
        "see you at the {topic} evening",
        "I will be late",
        "call me back today",
        "the {topic} group needs two more people",
        "who took the {item}?",
        "the {item} costs too much",
        "bring the papers about {topic}",
        "the door stays shut until noon",
        "all seats are taken",
        "good news about {topic}",
        "handle the {item} with care",
        "the {topic} plan has changed",
        "we are out of paper",
        "the delivery comes tomorrow",
    ),
    "dev": ("the {item} needs care", "the {topic} class is full"),
    "test": ("the notes about {topic} are attached", "{topic} is off the agenda", "everybody asks about {topic}"),
}
NUMBERS = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"),
    *("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
ONSETS = (
    "b bl br c ch cl d dr f fl fr g gl gr h j k kl kn kr l m n p ph pl pr qu r rh s sc sch sh sk sl sm sn sp st str sw "
    "t th tr ts v vl w wh x y z"
)
VOWELS = "a a a a a e e e e e i i i i o o o o u u u y aa ae ai au ea ee ei eu ia ie io oa oe oi oo ou ua ui"
CODAS = "b ck d f ff g k l ll lm ld lt m mb mp n n nd ng nk nn nt p r r rd rg rk rm rn rt s s sk ss st t tt tz x z"
"""How names without meaning sound."""
