import { version } from "../version.js";
import type { Command, Outcome } from "./command.js";

/** The manual page, in man(7)'s macros, out of the table of commands. */
export async function manAction(commands: readonly Command[]): Promise<Outcome> {
  const page = manPage(commands, version);
  return { value: { page }, text: page };
}

export function manPage(commands: readonly Command[], release: string): string {
  return [
    // No date: the same commands give the same page.
    `.TH EXITNODE 1 "" "exitnode ${text(release)}" "User Commands"`,
    ".SH NAME",
    "exitnode \\- your own exit node on Proxmox, and the self\\-hosted mesh around it",
    ".SH SYNOPSIS",
    ".B exitnode",
    "\\fICOMMAND\\fR [\\fIARGUMENT\\fR ...] [\\fB\\-\\-json\\fR]",
    ".SH DESCRIPTION",
    "Makes exit nodes in small containers on Proxmox VE hosts, joins devices to them over WireGuard, and looks after both.",
    "The first time:",
    ".PP",
    ".nf",
    ".RS",
    ...["exitnode setup", "exitnode up --join KEY", "exitnode use home"].map(text),
    ".RE",
    ".fi",
    ".SH COMMANDS",
    "Every command takes",
    ".B \\-\\-json",
    "and then prints one JSON value and nothing else on standard output; words about progress go to standard error.",
    ...commands.filter(({ hidden }) => hidden !== true).flatMap(section),
    ".SH EXIT STATUS",
    ...terms([
      ["0", "done, or nothing to do"],
      ["1", "it failed; the message says what to do next"],
      ["2", "wrong usage"],
      ["4", "plan found something to change"],
    ]),
    ".SH ENVIRONMENT",
    ...terms([
      ["EXITNODE_SECRET_NAME", "the secret of the host NAME, in capitals and with _ for -"],
      ["EXITNODE_SECRET", "the secret of any host that has none in credentials.yaml"],
      ["EXITNODE_CONFIG", "the folder of the configuration"],
      ["EXITNODE_WHOAMI", "services that tell the caller's address, separated by commas"],
      ["EXITNODE_DEBUG", "show where an internal error came from"],
    ]),
    ".SH FILES",
    ...terms([
      ["~/.config/exitnode/config.yaml", "hosts and coordinator; exitnode config schema describes it"],
      ["~/.config/exitnode/credentials.yaml", "their secrets, readable by their owner alone"],
      ["~/.local/state/exitnode", "journals of runs"],
      ["~/.cache/exitnode", "built container templates"],
      ["/etc/exitnode, /var/lib/exitnode, /run/exitnode", "a device: configuration; keys and network map; socket"],
    ]),
    ".SH SEE ALSO",
    ".BR wg (8),",
    ".BR pct (1),",
    ".BR pveum (1)",
    "",
  ].join("\n");
}

function section({ usage, summary, options = [] }: Command): string[] {
  return [
    ".SS",
    `exitnode ${text(usage)}`,
    `${text(summary)}${summary.endsWith("…") ? "" : "."}`,
    ...terms(options.map(({ flags, description }) => [flags, description])),
  ];
}

function terms(pairs: readonly (readonly [string, string])[]): string[] {
  return pairs.flatMap(([term, about]) => [".TP", `.B ${text(term)}`, text(about)]);
}

/** groff_char(7): a plain "-" may come out as a hyphen, a backslash begins an escape, a dot or quote at the start a request. */
function text(plain: string): string {
  return plain
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll("`", "\\(ga")
    .replaceAll("~", "\\(ti")
    .replaceAll("^", "\\(ha")
    .replaceAll("…", "\\[u2026]")
    .replace(/"/g, "\\(dq")
    .replace(/^(?=[.'])/, "\\&");
}
