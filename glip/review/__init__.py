"""Review: labels go into FiftyOne, where people correct them, and come back as a COCO file with the changes.

    annotations   the values under review: proposals, labels, images
    source        reads a label folder or a COCO file as images with proposals
    priorities    marks the boxes that a person should check first
    database      connects to FiftyOne; stores images and boxes in it and reads them
    push          adds images to a dataset or updates them, and saves views
    difference    finds the changes in an image, and applies new proposals without losing them
    truth         scores labels against true boxes
    pull, summary the corrected file, the list of changes, counts and a chart
    app           serves FiftyOne's app

Only `database`, `push`, `truth`, `app` and `pull` know FiftyOne. Nothing here knows the model.
"""
