"""English words for the subject of a prompt, used by the prompt guard: groups by axis, people, crowds, scenes.

`nouns` name a group anywhere ("a lady"), `adjectives` only next to a person ("a white coat" does not name a group).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GroupWords:
    """The words that name one group."""

    nouns: frozenset[str] = frozenset()
    adjectives: frozenset[str] = frozenset()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


AXES: dict[str, dict[str, GroupWords]] = {
    "gender": {
        "woman": GroupWords(
            _words(
                "woman women lady ladies girl girls gal female females she her hers herself mother mothers mom mum "
                "mommy grandmother grandma granny daughter daughters sister sisters aunt niece wife wives girlfriend "
                "bride queen princess duchess countess empress goddess actress waitress stewardess hostess heroine "
                "policewoman policewomen firewoman businesswoman businesswomen spokeswoman saleswoman chairwoman "
                "congresswoman sportswoman horsewoman craftswoman cowgirl schoolgirl ballerina nun abbess priestess "
                "witch sorceress enchantress huntress midwife housewife matriarch madam mrs ms miss maiden damsel "
                "lass ma'am transwoman lesbian"
            ),
            _words("female feminine womanly girly pregnant"),
        ),
        "man": GroupWords(
            _words(
                "man men gentleman gentlemen guy guys boy boys lad male males he him his himself father fathers dad "
                "daddy grandfather grandpa son sons brother brothers uncle nephew husband husbands boyfriend groom "
                "king prince duke emperor god actor waiter steward host hero policeman policemen fireman firemen "
                "businessman businessmen spokesman salesman chairman congressman sportsman horseman craftsman cowboy "
                "schoolboy monk priest wizard sorcerer huntsman patriarch sir mr mister bloke dude transman"
            ),
            _words("male masculine manly bearded"),
        ),
    },
    "race": {
        "white": GroupWords(
            _words("caucasian caucasians european europeans"),
            _words(
                "white pale fair caucasian european british english scottish irish french german italian spanish "
                "polish russian swedish norwegian danish dutch greek"
            ),
        ),
        "black": GroupWords(
            _words("african africans afro"),
            _words(
                "black dark african nigerian kenyan ethiopian ghanaian somali senegalese jamaican haitian sudanese "
                "congolese ugandan"
            ),
        ),
        "asian": GroupWords(
            _words("asian asians"),
            _words(
                "asian chinese japanese korean vietnamese thai filipino indonesian malaysian mongolian taiwanese "
                "cambodian burmese singaporean"
            ),
        ),
        "other": GroupWords(
            _words("hispanic hispanics latino latina latinos latinas latinx"),
            _words(
                "brown hispanic latino latina indian pakistani bangladeshi arab arabic persian iranian turkish "
                "mexican brazilian colombian peruvian indigenous native aboriginal polynesian maori inuit eastern "
                "biracial multiracial mixed interracial"
            ),
        ),
    },
    "age": {
        "young": GroupWords(
            _words(
                "child children kid kids baby babies toddler toddlers infant teen teens teenager teenagers youth "
                "youngster boy boys girl girls schoolboy schoolgirl adolescent"
            ),
            _words("young younger youthful teenage adolescent little"),
        ),
        "old": GroupWords(
            _words(
                "elderly elder elders senior seniors pensioner pensioners grandmother grandma granny grandfather "
                "grandpa retiree geriatric"
            ),
            _words("old older elderly aged senior aging ageing retired ancient middleaged"),
        ),
    },
}
"""Groups by axis. There is no concept for `other` races, but naming one also specifies the axis."""

_SKINS = ("dark", "light", "fair", "pale", "brown", "black", "white", "olive")
PHRASES: dict[str, tuple[str, ...]] = {
    "race": tuple(f"{tone} {skin}" for tone in _SKINS for skin in ("skin", "skinned")),
    "age": ("years old", "year old", "middle aged"),
}
"""Phrases that specify an axis."""

PEOPLE = _words(
    "person human adult individual figure somebody someone character face model citizen stranger tourist "
    "parent spouse twin sibling cousin neighbour neighbor friend partner patient customer client guest attendant "
    "cashier teacher nurse assistant secretary cleaner receptionist clerk counselor designer hairdresser writer "
    "housekeeper baker librarian tailor driver supervisor janitor cook laborer worker developer carpenter manager "
    "lawyer farmer salesperson physician guard analyst mechanic sheriff ceo doctor cto cfo boss leader chief "
    "engineer scientist professor researcher student pupil scholar academic surgeon dentist pharmacist therapist "
    "psychologist paramedic veterinarian vet programmer coder hacker architect builder plumber electrician welder "
    "painter artist sculptor musician singer dancer drummer guitarist pianist violinist composer conductor dj "
    "photographer filmmaker director producer actor comedian journalist reporter editor author poet novelist blogger "
    "chef barista bartender butcher fisherman gardener florist shopkeeper merchant trader vendor seller banker "
    "broker accountant auditor economist consultant entrepreneur founder executive director investor judge attorney "
    "prosecutor detective officer cop police soldier sailor pilot astronaut captain general colonel sergeant marine "
    "warrior knight samurai ninja pirate firefighter lifeguard politician president minister senator mayor governor "
    "diplomat ambassador activist priest pastor rabbi imam monk athlete player footballer runner swimmer cyclist "
    "boxer wrestler gymnast skater surfer climber coach trainer referee miner lumberjack blacksmith tailor cobbler "
    "mason potter weaver knitter jeweler watchmaker courier postman messenger porter waiter host maid nanny "
    "babysitter caregiver volunteer refugee immigrant homeless beggar prisoner criminal thief spy agent wizard witch "
    "mage elf superhero villain celebrity influencer youtuber streamer gamer rider traveler traveller hiker hunter "
    "shepherd cowboy technician operator inspector pathologist statistician hygienist appraiser dispatcher educator "
    "examiner planner hairstylist stylist barber beautician paralegal advisor adviser specialist practitioner intern "
    "apprentice trainee professional"
)
"""Words for one person. Words with the ending of an occupation (PERSON_ENDINGS) count as well."""

PERSON_ENDINGS = ("smith", "person", "ist", "ian", "er", "or")
NOT_PEOPLE = _words(
    "flower flowers leather paper papers river rivers tower towers water waters computer sweater feather feathers "
    "border silver letter letters poster posters mirror mirrors door doors floor floors color colour colors colours "
    "motor cover weather summer winter corner center centre number silver copper timber lumber amber ember september "
    "october november december theater theatre chamber helicopter trailer tractor reactor monitor projector elevator "
    "escalator calculator refrigerator blender toaster heater cooler boiler drawer counter hammer ladder pepper "
    "ginger butter burger tiger panther spider hamster beaver otter rooster oyster lobster leopard spider quarter "
    "order under over after never ever other another either together later earlier super hyper her our your error "
    "terror horror interior exterior decor harbor harbour vapor vapour armor armour flavor flavour labor odor tumor "
    "razor visor better bigger smaller older younger higher lower longer shorter darker lighter brighter softer "
    "closer larger master layer player render shader filter blur outer inner upper fiber fibre meter litre liter "
    "wrapper zipper slipper slippers sneaker sneakers boxer trouser collar mister banner folder container sculpture "
    "twist list mist wrist artist-like consist exist resist cyber dinner supper diner shower planter power lantern "
    "cluster glitter canister cylinder powder thunder wonder cinder shoulder finger hair beer deer pier steer cheer "
    "career sheer italian victorian edwardian georgian asian indian brazilian russian norwegian egyptian persian "
    "canadian australian parisian venetian martian reptilian utopian dystopian median meridian guardian pedestrian "
    "minimalist impressionist expressionist surrealist realist cubist futurist modernist art bar car star cigar "
    "laser bumper camper bunker freighter steamer cruiser destroyer carrier scooter roller skyscraper wallpaper "
    "newspaper blazer jumper pullover windbreaker loafers bomber reader manor mirror anchor motor sensor vector"
)
"""Common words with such an ending that do not mean a person."""

GROUPS = _words(
    "people persons crowd crowds group groups team teams couple couples family families band bands choir audience "
    "class gang squad crew staff public queue gathering meeting party friends students men women boys girls children "
    "kids ladies gentlemen adults humans colleagues coworkers army troop troops orchestra community everybody "
    "everyone duo trio folks"
)
"""Words for several people at once."""

SCENES = _words(
    "scene landscape scenery cityscape seascape skyline mountain mountains valley canyon desert forest jungle woods "
    "beach ocean sea lake river waterfall island sky sunset sunrise clouds stars galaxy nebula planet castle temple "
    "church cathedral house building buildings bridge street road alley city town village room kitchen bedroom "
    "interior garden field meadow car cars truck train airplane ship boat bicycle motorcycle robot cat cats dog dogs "
    "horse horses bird birds fish animal animals flower flowers tree trees fruit apple food cake pizza bowl cup "
    "bottle table chair sofa lamp logo pattern texture wallpaper still abstract architecture aerial"
)
"""Words for images that do not show people."""

LINKS = _words("is are was were looks being who's she's he's they're")
"""Verbs that connect an adjective to the person before them."""

STOPS = _words("a an the in on at with of from by for to near under over behind beside wearing holding using and or")
"""Words that separate an adjective from its person; "and" and "or" between adjectives do not."""

ENGLISH = _words("an the of with on at and by from to are his her their wearing holding who this that")
FOREIGN = _words(
    "d l un una uno unos unas el los las del con por para una uma um dos com em na une des les du avec dans sur et "
    "ein eine einen einem einer der das dem den mit und im auf von zu il lo gli di che della nel een het van op met "
    "en foto retrato ritratto bild"
)
"""The most common words of Spanish, Portuguese, French, German, Italian and Dutch that are rare in English."""
