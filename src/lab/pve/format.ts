import { tryCidr, tryIp } from "../../kit/ip.js";

/** The named formats of Proxmox's schema. Those not listed accept any text: no call of ours depends on them. */
const FORMATS: Readonly<Record<string, (text: string) => string | undefined>> = {
  "pve-vmid": (text) => expect(/^[1-9][0-9]{2,8}$/.test(text), "value does not look like a valid VM ID"),
  "dns-name": (text) =>
    expect(
      text.length <= 253 && text.split(".").every((label) => /^[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?$/.test(label)),
      "value does not look like a valid DNS name",
    ),
  ipv4: (text) => expect(isIp(text, 4), "value does not look like a valid ipv4 address"),
  ipv6: (text) => expect(isIp(text, 6), "value does not look like a valid ipv6 address"),
  "pve-ipv4-config": (text) =>
    expect(
      text === "dhcp" || text === "manual" || isPrefix(text, 4),
      "value does not look like a valid ipv4 network configuration",
    ),
  "pve-ipv6-config": (text) =>
    expect(
      text === "auto" || text === "dhcp" || text === "manual" || isPrefix(text, 6),
      "value does not look like a valid ipv6 network configuration",
    ),
  "mac-addr": (text) =>
    expect(
      /^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$/.test(text),
      "value does not look like a valid unicast MAC address",
    ),
  "disk-size": (text) =>
    expect(/^\d+(\.\d+)?[KMGT]?$/.test(text), `value does not look like a valid disk size: ${text}`),
  "lxc-ip-with-ll-iface-list": (text) =>
    expect(
      words(text).every((word) => tryIp(word.replace(/%.*/, "")) !== undefined),
      "value does not look like a valid IP address",
    ),
  "dns-name-list": (text) =>
    words(text)
      .map((word) => FORMATS["dns-name"]?.(word))
      .find(Boolean),
  "pve-configid": (text) => expect(/^[a-zA-Z][a-zA-Z0-9_-]+$/.test(text), `invalid configuration ID '${text}'`),
  "pve-tag-list": (text) =>
    expect(
      words(text).every((tag) => /^[a-z0-9_][a-z0-9_\-+.]*$/i.test(tag)),
      "invalid characters in tag",
    ),
  "pve-poolid": (text) => expect(/^[A-Za-z0-9.\-_/]+$/.test(text), `value does not look like a valid pool name`),
  "pve-roleid": (text) => expect(/^[A-Za-z0-9.\-_]+$/.test(text), `role name '${text}' contains invalid characters`),
  "pve-userid": (text) =>
    expect(/^[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+$/.test(text), `value '${text}' does not look like a valid user name`),
  "pve-storage-id": (text) =>
    expect(/^[a-z][a-z0-9\-_.]*[a-z0-9]$/i.test(text), `storage ID '${text}' contains illegal characters`),
  "pve-startup-order": (text) =>
    expect(
      /^(order=\d+|up=\d+|down=\d+|\d+)(,(up=\d+|down=\d+|order=\d+))*$/.test(text),
      "unable to parse startup options",
    ),
  "pve-volume-id": (text) => expect(/^[^:\s]+:\S+$/.test(text), "unable to parse volume ID"),
};

/** What is wrong with the text, or undefined. */
export function formatError(format: string, text: string): string | undefined {
  return FORMATS[format]?.(text);
}

/** Proxmox's `-list` separators: comma, semicolon, white space, NUL. */
export function words(text: string): string[] {
  return text.split(/[,;\s\0]+/).filter((word) => word !== "");
}

function expect(holds: boolean, error: string): string | undefined {
  return holds ? undefined : error;
}

function isIp(text: string, family: 4 | 6): boolean {
  return tryIp(text) !== undefined && text.includes(":") === (family === 6);
}

function isPrefix(text: string, family: 4 | 6): boolean {
  return text.includes("/") && text.includes(":") === (family === 6) && tryCidr(text) !== undefined;
}
