import type { Command } from "./command.js";

/** The embedded Proxmox and Internet, on one Linux machine. */
export const labCommands: readonly Command[] = [
  {
    usage: "lab up",
    summary: "Raise the lab: a café, a home with a Proxmox VE host, and the Internet between them",
    run: async (call) => (await import("./labup.js")).labUp(call),
  },
  {
    usage: "lab down",
    summary: "Take the lab away: its containers, processes, namespaces and interfaces",
    options: [{ flags: "--purge", description: "also delete what is kept for the next time, such as templates" }],
    run: async (call) => (await import("./labup.js")).labDown(call),
  },
  {
    usage: "lab status",
    summary: "Show the lab's places, addresses, processes, containers and port forwards",
    run: async (call) => (await import("./labstatus.js")).status(call),
  },
  {
    usage: "lab exec <place> [command...]",
    summary: "Run a command, or a shell, in a place of the lab: laptop, cafe, home, web, vps, nas, pve1, …",
    passThrough: true,
    run: async (call) => (await import("./labexec.js")).labExec(call),
  },
  {
    usage: "lab nat <place> <kind>",
    summary: "Change the NAT of cafe or home: endpoint-independent, address-and-port-dependent, symmetric, udp-blocked",
    run: async (call) => (await import("./labup.js")).labNat(call),
  },
  {
    usage: "lab serve-web",
    summary: "Answer whoami.lab and download.lab",
    hidden: true,
    run: async (call) => (await import("./labserve.js")).serveWebSite(call),
  },
  {
    usage: "lab serve-nas",
    summary: "Answer nas.home",
    hidden: true,
    run: async (call) => (await import("./labserve.js")).serveNas(call),
  },
  {
    usage: "lab serve-pve",
    summary: "Answer as the Proxmox VE API",
    hidden: true,
    run: async (call) => (await import("./labserve.js")).serveProxmox(call),
  },
];
