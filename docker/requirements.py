"""Print what setup.cfg requires, with extras: `requirements.py cpu record`. Images install it in a layer of its own."""

import configparser
import sys

setup = configparser.ConfigParser()
setup.read("setup.cfg", encoding="utf-8")
print(setup["options"]["install_requires"].strip())
for extra in sys.argv[1:]:
    print(setup["options.extras_require"][extra].strip())
