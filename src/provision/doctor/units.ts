import { type Finding, fine, onHost, stops, warns } from "../preflight/finding.js";
import { type Examined, inContainer } from "./examined.js";
import type { FailedUnit } from "./symptoms.js";

/** Units that failed, each with the cause that its exit status or its journal gives away. */
export function unitFindings(examined: Examined): Finding[] {
  const { units } = examined.symptoms;
  if (units.length === 0) return [fine("units", "none has failed")];
  return units.map((unit) => recognise(unit, examined));
}

type Cause = {
  readonly code: string;
  readonly match: (unit: FailedUnit) => boolean;
  readonly why: string;
  /** It is the exit node that suffers, and not something beside it. */
  readonly severe?: true;
  readonly advice: (unit: FailedUnit, examined: Examined) => string;
};

const says =
  (match: RegExp) =>
  ({ said }: Pick<FailedUnit, "said">): boolean =>
    said.some((line) => match.test(line));

/** systemd.exec(5), "Process Exit Codes". */
const NAMESPACE = 226;

const CAUSES: readonly Cause[] = [
  {
    code: "nesting-off",
    match: (unit) => unit.status === NAMESPACE || says(/226\/NAMESPACE|Failed to set up mount namespacing/)(unit),
    why: "systemd may not make namespaces in this container: it needs nesting",
    severe: true,
    advice: (_unit, { container: { vmid } }) => onHost(`pct set ${vmid} --features nesting=1 && pct reboot ${vmid}`),
  },
  {
    code: "modprobe-inside",
    match: says(/modprobe: (?:FATAL|ERROR)|modprobe.*(?:not found|No such file)/),
    why: "it loads a kernel module, which only the host can; the module itself may be there",
    advice: ({ name }, examined) =>
      inContainer(examined, `systemctl edit ${name}    (an empty "ExecStartPre=" line takes the modprobe out)`),
  },
  {
    code: "root-owner",
    match: says(/[Uu]nsafe path transition/),
    why: "/ or a folder on the way belongs to somebody else than root",
    severe: true,
    advice: (_unit, examined) => inContainer(examined, "stat -c '%U %n' / /var /run /etc"),
  },
  {
    code: "nftables-refused",
    match: says(
      /cache initialization failed|Table does not exist \(do you need to insmod\?\)|can't initialize ip6?tables/,
    ),
    why: "the host has not loaded what packet filters need, or the program is the old iptables",
    severe: true,
    advice: (_unit, { container: { vmid } }) => onHost("modprobe -a nf_tables nft_masq nf_nat", `pct reboot ${vmid}`),
  },
  {
    code: "clock-inside",
    match: (unit) =>
      /^(?:chrony|ntp|ntpsec|systemd-timesyncd)\b/.test(unit.name) || says(/adjtimex|Could not set clock/)(unit),
    why: "a container has the host's clock and may not set it",
    advice: ({ name }, examined) => inContainer(examined, `systemctl mask --now ${name}`),
  },
  {
    code: "tun-missing",
    match: says(/CreateTUN|\/dev\/net\/tun/),
    why: "it needs /dev/net/tun",
    advice: (_unit, { container: { vmid } }) =>
      onHost(`pct set ${vmid} --dev0 /dev/net/tun,mode=0666 && pct reboot ${vmid}`),
  },
  {
    code: "dhcp-client-missing",
    match: (unit) =>
      unit.name === "networking.service" && says(/No DHCP client|dhcp.*not found|executable not found/i)(unit),
    why: "the template has no DHCP client",
    severe: true,
    advice: (_unit, examined) => inContainer(examined, "apt-get install -y dhcpcd-base"),
  },
  {
    code: "sysctl-refused",
    match: says(/nf_conntrack_max|rmem_max|kernel\.\S+.*(?:denied|Read-only)/),
    why: "only the host may set that",
    advice: (unit) =>
      onHost(`sysctl -w ${/(?:net|kernel)[./]\S+?(?=['": ]|$)/.exec(unit.said.join(" "))?.[0] ?? "KEY"}=VALUE`),
  },
  {
    code: "locale-missing",
    match: says(/setlocale: LC_|LANG: unbound variable|locale\.gen/),
    why: "a locale is asked for that is not there",
    advice: (_unit, examined) => inContainer(examined, "sh -c 'echo LANG=C.UTF-8 > /etc/default/locale'"),
  },
];

/** What systemd itself writes below the program's own last words. */
const EPILOGUE =
  /^(?:Starting|Started|Stopped|Failed to start) |: (?:\w+ process exited|Failed with result|Scheduled restart)/;

function recognise(unit: FailedUnit, examined: Examined): Finding {
  const { name, status, said } = unit;
  const ours = name.startsWith("exitnode-");
  const cause = CAUSES.find(({ match }) => match(unit));
  const last = said.findLast((line) => !EPILOGUE.test(line))?.slice(0, 160);
  const what = `${name} fails${status === 0 ? "" : ` with ${status}`}${last === undefined ? "" : `: ${last}`}`;
  const advice =
    cause?.advice(unit, examined) ??
    (ours
      ? `exitnode logs ${examined.container.identity.name} --host ${examined.hostName}`
      : inContainer(examined, `journalctl -u ${name} -n 30`));
  const more = { ...(cause === undefined ? {} : { why: cause.why }), advice };
  return ours || cause?.severe === true
    ? stops("units", cause?.code ?? "unit-failed", what, more)
    : { ...warns("units", what, more), ...(cause === undefined ? {} : { code: cause.code }) };
}
