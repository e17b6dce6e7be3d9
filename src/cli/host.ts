import type { Command } from "./command.js";

/** Proxmox hosts: what is kept in the config, and whether it works. */
export const hostCommands: readonly Command[] = [
  {
    usage: "host add <name>",
    summary: "Keep a Proxmox VE host: its URL, certificate and login, after trying them; or change a kept one",
    options: [
      { flags: "--url <URL>", description: "the Proxmox host, such as https://192.168.1.10:8006" },
      { flags: "--token <ID>", description: "log in with the API token user@realm!id; its secret is asked for" },
      { flags: "--user <LOGIN>", description: "log in as user@realm with a password, which is asked for" },
      {
        flags: "--bootstrap",
        description:
          "log in as root@pam (or --user) once: make pool, role, user and a least-privilege token, keep that",
      },
      {
        flags: "--pool <POOL>",
        description: "with --bootstrap: the token may only touch this pool; default: exitnode",
      },
      { flags: "--dry-run", description: "with --bootstrap: change nothing, print the pveum lines" },
      { flags: "--secret-stdin", description: "read the secret as one line on stdin (or set EXITNODE_SECRET)" },
      { flags: "--password-stdin", description: "the same, where the secret is a password; TOTP: EXITNODE_TOTP" },
      {
        flags: "--ssh-jump <TARGET>",
        description: "reach containers through the host's sshd, as user@host or user@host:port",
      },
      {
        flags: "--ssh-host-key <KEY>",
        description: "its SSH host key (ed25519), known beforehand; asked for otherwise",
      },
      { flags: "--fingerprint <FP>", description: "SHA-256 of the host's certificate, known beforehand" },
      { flags: "--pve-node <NODE>", description: "the PVE node to work on, in a cluster" },
      {
        flags: "--yes",
        description: "take the certificate that the host shows, and do what --bootstrap shows, unasked",
      },
    ],
    run: async (call) => (await import("./hostadd.js")).hostAdd(call),
  },
  {
    usage: "host list",
    summary: "Show the Proxmox hosts that are kept",
    run: async (call) => (await import("./hostlist.js")).hostList(call),
  },
  {
    usage: "host check [name]",
    summary:
      "Try everything an exit node needs of a host, the only one if none is named, and say how to mend what is missing",
    run: async (call) => (await import("./hostcheck.js")).hostCheck(call),
  },
  {
    usage: "host remove <name>",
    summary: "Forget a Proxmox host and its secret; nothing on the host changes",
    run: async (call) => (await import("./hostlist.js")).hostRemove(call),
  },
];
