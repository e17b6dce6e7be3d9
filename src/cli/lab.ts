import type { Command } from "./command.js";

/** The embedded Proxmox and Internet, on one Linux machine. */
export const labCommands: readonly Command[] = [
  {
    usage: "lab up",
    summary: "Raise the lab: a café, a home with a Proxmox VE host, and the Internet between them",
    options: [
      { flags: "--home-nat <KIND>", description: "how the home reaches the Internet; see lab nat" },
      { flags: "--cafe-nat <KIND>", description: "how the café reaches the Internet; see lab nat" },
      { flags: "--forward <ANSWER>", description: "whether the home router forwards the exit node's ports (yes)" },
      { flags: "--home-upnp <ANSWER>", description: "whether the home router serves UPnP, NAT-PMP and PCP (no)" },
      { flags: "--hosts <N>", description: "how many Proxmox hosts the home has, 1 to 4 (1)" },
      { flags: "--cluster", description: "the Proxmox hosts are one cluster; needs two or more" },
      { flags: "--pve-version <RELEASE>", description: "the release the Proxmox hosts are: 9.2 or 8.4 (9.2)" },
      { flags: "--vps <ANSWER>", description: "whether vps is a Debian machine of its own, with SSH for root (no)" },
      { flags: "--for <NAME>", description: "whose lab it is: one that is up and was not raised for NAME is refused" },
    ],
    run: async (call) => (await import("./labup.js")).labUp(call),
  },
  {
    usage: "lab down",
    summary: "Take the lab away: its containers, processes, namespaces and interfaces",
    options: [
      { flags: "--purge", description: "also delete what is kept for the next time, such as templates" },
      { flags: "--for <NAME>", description: "only a lab that was raised for NAME" },
    ],
    run: async (call) => (await import("./labup.js")).labDown(call),
  },
  {
    usage: "lab status",
    summary: "Show the lab's situation, places, addresses, processes, containers and port forwards",
    run: async (call) => (await import("./labstatus.js")).status(call),
  },
  {
    usage: "lab exec <place> [command...]",
    summary: "Run a command, or a shell, in a place of the lab: laptop, cafe, home, web, vps, nas, pve1, …",
    passThrough: true,
    run: async (call) => (await import("./labexec.js")).labExec(call),
  },
  {
    usage: "lab nat <site> <kind>",
    summary:
      "Change how cafe or home reaches the Internet: open, endpoint-independent, ordinary (which is " +
      "address-and-port-dependent), symmetric, double, udp-blocked, ipv6-only, ipv4-only",
    run: async (call) => (await import("./labsituation.js")).labNat(call),
  },
  {
    usage: "lab move <device> <network>",
    summary: "Unplug the laptop and plug it in elsewhere: cafe, home or mobile",
    run: async (call) => (await import("./labsituation.js")).labMove(call),
  },
  {
    usage: "lab link <site> <state>",
    summary:
      "The Internet line of cafe or home: up, down (silence), or direct-cut (UDP between homes vanishes, servers answer)",
    run: async (call) => (await import("./labsituation.js")).labLink(call),
  },
  {
    usage: "lab loss <site> <percent>",
    summary: "Lose so many percent of the packets on the line of cafe or home, in each direction",
    run: async (call) => (await import("./labsituation.js")).labLoss(call),
  },
  {
    usage: "lab mtu <site> <bytes>",
    summary: "The largest packet on the line of cafe or home, 576 to 1500; IPv6 never below 1280",
    options: [{ flags: "--silent", description: "nobody is told that a packet was too big: a black hole" }],
    run: async (call) => (await import("./labsituation.js")).labMtu(call),
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
    usage: "lab serve-pve <node>",
    summary: "Answer as the Proxmox VE API",
    options: [{ flags: "--cluster <N>", description: "the first of so many members, or one of the others" }],
    hidden: true,
    run: async (call) => (await import("./labserve.js")).serveProxmox(call),
  },
];
