/** argv as one line for the login shell of a remote machine: what SSH's exec request carries (RFC 4254 §6.5). */

/** Printed to stderr when the program is not there: an exit code of 127 may also be the program's own. */
export const NO_PROGRAM = "exitnode: no such program";

export function quoteWord(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** `exec` at the end makes the program itself the session's process, so that a signal's name comes back. */
export function remoteLine(argv: readonly string[], env: Readonly<Record<string, string>> = {}): string {
  const [program = "", ...rest] = argv.map(quoteWord);
  const settings = Object.entries(env).map(([name, value]) => `${name}=${quoteWord(value)}`);
  const setting = settings.length === 0 ? "" : `export ${settings.join(" ")}; `;
  const missing = `{ echo ${quoteWord(NO_PROGRAM)} >&2; exit 127; }`;
  return `${setting}command -v ${program} >/dev/null 2>&1 || ${missing}; exec ${[program, ...rest].join(" ")}`;
}
