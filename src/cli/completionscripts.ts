import { Failure } from "../kit/failure.js";
import type { Call, Outcome } from "./command.js";

/**
 * The scripts are the same for every version: they hand the words of the line to `exitnode complete`, which knows
 * the commands. Where it has nothing to say, the shell offers files.
 */
export async function completionAction({ args: [shell = ""] }: Call): Promise<Outcome> {
  const script = Object.hasOwn(SCRIPTS, shell) ? SCRIPTS[shell] : undefined;
  if (script === undefined)
    throw new Failure("usage", `expected one of ${Object.keys(SCRIPTS).join(", ")}, got "${shell}"`);
  return { value: { shell, script }, text: script };
}

const BASH = `# exitnode in bash. In ~/.bashrc: . <(exitnode completion bash)
_exitnode() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do
    COMPREPLY+=("\${line%%$'\\t'*}")
  done < <(exitnode complete bash "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _exitnode exitnode
`;

const ZSH = `#compdef exitnode
# exitnode in zsh. In ~/.zshrc, after compinit: . <(exitnode completion zsh); or as a file _exitnode in a folder of $fpath
_exitnode() {
  local line
  local -a found
  while IFS= read -r line; do
    found+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
  done < <(exitnode complete zsh "\${(@)words[2,CURRENT]}" 2>/dev/null)
  if (( $#found )); then _describe -V exitnode found; else _files; fi
}
if [[ $funcstack[1] == _exitnode ]]; then _exitnode "$@"; else compdef _exitnode exitnode; fi
`;

const FISH = `# exitnode in fish. Once: exitnode completion fish > ~/.config/fish/completions/exitnode.fish
function __exitnode_complete
  set -l words (commandline -opc) (commandline -ct)
  set -l found (exitnode complete fish $words[2..-1] 2>/dev/null)
  if test (count $found) -gt 0
    printf '%s\\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c exitnode -f -a '(__exitnode_complete)'
`;

const SCRIPTS: Readonly<Record<string, string>> = { bash: BASH, zsh: ZSH, fish: FISH };
