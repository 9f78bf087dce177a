"""Labels become data: into FiftyOne, where people correct them, and back as a COCO file with what was changed.

    source      a label folder or a COCO file → images with proposals
    priorities  which of them deserve a look first
    merging     proposals that come again meet what people did in the meantime
    database    FiftyOne and its MongoDB; documents: how an image stands there
    push, views, app   into the dataset, its saved views, the browser
    truth       what of it is right, where somebody knows
    difference, pull, chart   what people changed; files and an image of it

Only `database`, `push`, `views`, `truth`, `app` and `pull` know FiftyOne. Nothing here knows the model.
"""
