import type { Option } from "./command.js";

/** What `up --ssh` commands take; apart from what they load, so that --help stays quick. */
export const LOGIN_OPTIONS: readonly Option[] = [
  { flags: "--ssh <TARGET>", description: "the machine, as root@host or root@host:port" },
  { flags: "--host-key <KEY>", description: "its SSH host key (ed25519), known beforehand; asked for otherwise" },
  { flags: "--identity <FILE>", description: "the private key that lets root in; default: ours, ssh_ed25519" },
];
