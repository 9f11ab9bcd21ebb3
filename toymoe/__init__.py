"""toymoe: a toy mixture-of-experts language model to watch, dissect, edit and defend.

Data flows from the top of this list to the bottom, and nothing imports what stands below it::

    errors        one sentence each
    signals       Ctrl-C, kill and a closed terminal
    start         how commands and lessons start JAX
    hazards       what is hazardous, by rule
    config        settings, checked
    checkpoint    files that are whole or absent
    numerics      settings of JAX that numbers depend on
    world         the toy language
    model         the transformer, and where to look into it
    training      pretrain, then align
    measures      each quantity defined once
    organism      a trained model with its world
    export        toymoe export
    attribution   which part is responsible?
    pages         how anything is shown
    runs          toymoe run, toymoe sweep
    zoo           toymoe zoo
    validation    toymoe score, toymoe validate
    attacks       toymoe raset
    defences      toymoe defend
    explorer      toymoe explore
    classroom     toymoe lessons, toymoe grade
    machine       toymoe bench, toymoe doctor
    commands      one module each, and their words
    cli           how they end

Axis letters, the same everywhere (einsum strings use them in lower case)::

    B prompts        T positions       D model width       H heads
    K head width     E experts         F expert width      V vocabulary
    L layers         S seeds or steps  N tokens (B * T)    A selected experts
    G topics

An array called ``gates_LBTE`` has the axes layer, prompt, position, expert.
"""

__version__ = "0.1.0"
