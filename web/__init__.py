"""What runs in browsers and in Node: the JavaScript module and the files of the static page, as package data."""
