"Commands of one kind of task each; the command line finds them by walking through this folder."
