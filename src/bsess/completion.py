r"""What TAB offers, and the scripts that ask for it.

A script hands the words up to the cursor as arguments, the unfinished one last, with `_BSESS_COMPLETE=SHELL` set; the
answer is one candidate a line, a TAB and its help behind it (bash: without). No script evaluates what it is given,
and only candidates of harmless characters are offered at all: Typer's own zsh script evaluates them, so that a value
like `a\$(touch X)` runs on TAB.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from bsess.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

SHELLS = ("bash", "zsh", "fish", "powershell")
_HARMLESS = re.compile(r"--?[A-Za-z0-9][A-Za-z0-9-]*|[A-Za-z0-9][A-Za-z0-9._:/-]*", re.ASCII)
_MAX = 200

_BASH = """\
_bsess() {
    local candidate
    COMPREPLY=()
    while IFS= read -r candidate; do
        COMPREPLY+=("$candidate")
    done < <(_BSESS_COMPLETE=bash command bsess "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _bsess bsess
"""
_ZSH = """\
#compdef bsess
_bsess() {
    local line
    local -a values shown
    while IFS= read -r line; do
        values+=("${line%%$'\\t'*}")
        shown+=("${line/$'\\t'/  -- }")
    done < <(_BSESS_COMPLETE=zsh command bsess "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( $#values )); then
        compadd -l -d shown -a values
    else
        _files
    fi
}
if [[ $funcstack[1] == _bsess ]]; then
    _bsess "$@"
else
    compdef _bsess bsess
fi
"""
_FISH = """\
function __bsess_complete
    set -l words (commandline -opc) (commandline -ct)
    _BSESS_COMPLETE=fish command bsess $words[2..-1] 2>/dev/null
end
complete --command bsess --no-files --arguments '(__bsess_complete)'
"""
_POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName bsess -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Select-Object -Skip 1 | ForEach-Object { $_.ToString() })
    if (-not $wordToComplete) { $words += '""' }
    $Env:_BSESS_COMPLETE = 'powershell'
    try {
        & (Get-Command bsess -CommandType Application | Select-Object -First 1) @words 2>$null | ForEach-Object {
            $value, $help = $_ -split "`t", 2
            if (-not $help) { $help = $value }
            [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $help)
        }
    } finally {
        Remove-Item Env:_BSESS_COMPLETE
    }
}
"""
_SCRIPTS = dict(zip(SHELLS, (_BASH, _ZSH, _FISH, _POWERSHELL), strict=True))


def script(shell: str) -> str:
    """Return a shell's completion script. Raises UsageError for a shell without one."""
    if shell not in _SCRIPTS:
        raise UsageError(f"there is no completion for {shell[:40]!r}", hint=f"one of {', '.join(SHELLS)}")
    return _SCRIPTS[shell]


def answer(shell: str, words: list[str], candidates: Callable[[list[str], str], list[tuple[str, str | None]]]) -> int:
    """Print what `candidates` has for the last of `words`. Never fails: a TAB is no place for an error."""
    incomplete = words[-1].strip("\"'") if words else ""
    lines = []
    for value, text in candidates(words[:-1], incomplete):
        if _HARMLESS.fullmatch(value):
            lines.append(f"{value}\t{_first_sentence(text)}" if text and shell != "bash" else value)
    sys.stdout.write("".join(line + "\n" for line in lines))
    return 0


def session_ids(incomplete: str) -> list[str]:
    """Return the ids of open rows that begin so; nothing where the ledger cannot be read at once."""
    from bsess.config import state_dir
    from bsess.ledger.sqlite import peek_ids

    found = peek_ids(state_dir(os.environ).value, most=_MAX)
    return [name for name in found if name.startswith(incomplete) and _HARMLESS.fullmatch(name)]


def profile_names(incomplete: str) -> list[str]:
    """Return the profiles that begin so; nothing where the config cannot be read."""
    from bsess import config
    from bsess.errors import BsessError

    try:
        names = list(config.load(os.environ).profiles)
    except BsessError:
        return []
    return [name for name in names if name.startswith(incomplete) and _HARMLESS.fullmatch(name)]


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0]
