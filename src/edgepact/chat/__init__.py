"""An endpoint of a device that speaks OpenAI's protocol, so that any chat client writes with the
model that device and server run together.

- `requests`: what is asked, within bounds;
- `writing`: a text on its way from the device's threads to whoever asked;
- `answers`: what is answered, in OpenAI's shapes, errors too;
- `endpoint`: who is let in, and the web server.

Of OpenAI's protocol there are models, completions and chat completions. What a client may ask and
this endpoint does not do (several choices, tools, penalties, pictures) is refused by name.
"""
