"""The demo, `genmoji app`: a page and an endpoint in Gradio, in front of one thread that draws.

server.py starts and stops it. firewall.py lets only the demo's own requests through to Gradio.
request.py validates what a visitor asks for. job.py is a drawing that a visitor waits for, worker.py the thread that
draws jobs one after the other. session.py keeps what an open page has drawn.
page.py handles the page's events; components.py lays it out, stage.py says what its stage shows; the browser's side is
stage.js, history.js, ideas.js, page.css and theme.py. download_routes.py serves the files of finished drawings.
endpoint.py is `/generate` for programs, endpoint_files.py the files of its answers.
"""
