import { randomInt } from "node:crypto";
import { joinOption, splitOption } from "./guestconfig.js";

/** A MAC address of Proxmox's own range. */
function newMac(): string {
  const byte = (): string => randomInt(256).toString(16).toUpperCase().padStart(2, "0");
  return `BC:24:11:${byte()}:${byte()}:${byte()}`;
}

/** net0 as it is stored: a MAC and a type are added, keys are put in order. */
export function storedNet(option: string, mac: () => string = newMac): string {
  const net = splitOption(option);
  const hwaddr = (net.hwaddr ?? mac()).toUpperCase();
  return joinOption({ ...net, hwaddr, type: "veth" }, ["name"]);
}

/** The same interface with a MAC address of its own, as clones get it. */
export const withNewMac = (option: string): string => storedNet(option.replace(/,?hwaddr=[^,]+/, ""));
