"""`python -m local`: what `./oncetask` starts."""

from local.command import main

if __name__ == "__main__":
    main()
