"""The demo: `genmoji app`, a page and an endpoint in Gradio before one thread that draws.

request.py reads what is asked for · worker.py draws it, one after the other · session.py is what a page remembers ·
page.py is the page, with stage.js, history.js, ideas.js and page.css · take.py makes what is taken away ·
endpoint.py is `/generate` · gate.py keeps the rest of Gradio's doors shut · serving.py starts it all.
"""
