"""Any known checkpoint file, read into numpy arrays without torch and without running it.

A torch checkpoint is a pickle, and a pickle is a program: unpickled in the usual way it can
call any function of any installed library. Here it is *interpreted* instead, by a machine that
is safe by construction rather than by a list of what is forbidden:

1. Python's own unpickler is never used, restricted or not. It would trust the file with things
   that no `find_class` sees: attributes set on whatever object `BUILD` finds, classes out of
   the extension registry, a memo as long as the file says. `_machine` walks over the
   instructions that `pickletools.genops` decodes and does each one itself; an instruction that
   is not in its table refuses the file.
2. A global is never looked up. Naming one puts a `Name` on the stack, which holds a text and
   nothing else; no import, no `getattr`, no callable ever stands on the stack.
3. A call (`REDUCE`) happens only when the text of the name is a key of the one table in
   `_known`, and what is called is a function of that file, which makes a container, a record of
   a tensor, or a record without content for what is of no use here (dates, paths, the state of
   random generators). Any other call refuses the file, naming what it would have called: it may
   be harmless, but nothing here knows that.
4. Making an object of an unknown class (how a whole pickled network looks) gives an `Inert`: a
   record with the class's name and a dict. Its state is stored, never acted upon.

So nothing in the file can choose what runs. On top of that, names out of modules that only an
attack would name (`os`, `subprocess`, `builtins.eval`, ...) refuse the file as soon as they are
seen, called or not. Numbers are not trusted either. Every storage must lie inside the file and
every tensor inside its storage. What has to be copied is counted before it is allocated: at most
four times the file's size and 64 MiB. Keys that are costly to hash are never hashed. The steps of
a pickle, what a call copies, and the parts of a pickled network are limited; the records of a zip
file may not overlap and only those in use are read, so the work grows with the file and no faster.

Nothing is guessed. Two dicts of tensors under two of the usual names (`model`, `state_dict`, ...)
refuse the file; a running average beside them under another name (`ema`) is passed over. Keys
with control characters, which could act on the terminal that shows them, refuse it too.

The tensors are read-only and in this machine's byte order, C-contiguous. Those of a zip file are
views on the file's bytes, which are read once; others are copied (legacy files do not align
theirs, and strided ones are laid out). bfloat16 becomes float32, which loses nothing, because
numpy has no such type; float16 and every other type stay as they are.
"""

from reidkit.checkpoints._reading import Checkpoint, read

__all__ = ["Checkpoint", "read"]
