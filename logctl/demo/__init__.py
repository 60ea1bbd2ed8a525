"""`logctl demo`: the whole at work on real flights, with a member and the server killed on the way.

flights   the sample that is played
processes the private server, the members, the commands: all real programs
member    one member of the group, the program
checks    what was sent against what was stored, read and replayed; pure
story     the play, told as it goes
command   the verb
"""
