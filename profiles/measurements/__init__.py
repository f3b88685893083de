"""Public measurements of decoding speed, with their sources, and the script that fits `profiles/speed.json` on them."""
