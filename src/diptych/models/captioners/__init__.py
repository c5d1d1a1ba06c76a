"""The captioners of their time, one architecture a file, each small enough to read in one go.

Read in this order: `captioner` (what all share), `show_and_tell`, `show_attend_tell`,
`bottom_up_top_down`, `word_decoder` (the language model of the later ones), `vit_gpt2`, `clip_cap`,
`flamingo`, `linear_bridge`, `sim_vlm`, `ofa`; then `uniter` and `vilbert`, which judge and do not
speak. `table` names them.
"""
