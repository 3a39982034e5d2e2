/* What the fake model says: ordinary prose, so that a detector that reads it does real work and finds nothing. */
#ifndef BENCH_PROSE_H
#define BENCH_PROSE_H

static const char PROSE[] =
    "A good loaf of bread needs four things and a little patience, because flour, water, salt and time "
    "do most of the work by themselves. Mix the flour with the water first and let it rest for half an "
    "hour, so that the dough becomes smooth without much kneading. Then add the salt and the leaven, "
    "fold the dough a few times during the afternoon, and keep the bowl in a warm corner of the kitchen. "
    "You can tell that it is ready when it has grown by about a half and trembles a little when you move "
    "the bowl. Shape it gently on a floured table, put it into a basket lined with a cloth, and leave it "
    "in the fridge until the next morning. Heat the oven with a heavy pot inside for at least forty "
    "minutes, turn the loaf into the pot, cut its top with a sharp blade and close the lid. After twenty "
    "minutes take the lid off and bake until the crust has the colour of chestnuts. Let the bread cool "
    "on a rack before you cut it, since the crumb is still setting while it is hot. If the first loaf is "
    "flat, the dough was probably too warm or waited too long; write down the times and change only one "
    "thing the next day. Most bakers keep such notes for years, and many say that the weather matters "
    "more than the recipe. In summer the water should be cold, in winter it may be as warm as a hand. "
    "Older loaves make good toast, and what is left after that can be dried and ground for the next cake. ";

#endif
