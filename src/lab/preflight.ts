import { Failure } from "../kit/failure.js";
import type { Exec } from "../sys/exec.js";
import { TOOL_PATH } from "./places.js";

/** What a machine must have before the lab changes anything on it. */
export const TOOLS: readonly { readonly tool: string; readonly package: string }[] = [
  { tool: "lxc-start", package: "lxc" },
  { tool: "nft", package: "nftables" },
  { tool: "ip", package: "iproute2" },
  { tool: "mmdebstrap", package: "mmdebstrap" },
  { tool: "newuidmap", package: "uidmap" },
  { tool: "traceroute", package: "traceroute" },
  { tool: "dnsmasq", package: "dnsmasq-base" },
];

/** Only for a home router that maps ports at a device's request. */
export const UPNP_TOOL = { tool: "miniupnpd", package: "miniupnpd-nftables" };

export type Machine = { readonly platform: string; readonly uid: number | undefined };

export function requireLinuxRoot(machine: Machine, command: string): void {
  if (machine.platform !== "linux")
    throw new Failure("lab-needs-linux", `the lab runs on Linux, this machine is "${machine.platform}"`, {
      advice: "run it in a Debian 12 or 13 virtual machine",
    });
  if (machine.uid !== 0)
    throw new Failure("lab-needs-root", `the lab needs root for its namespaces, this is user ${machine.uid ?? "?"}`, {
      advice: `sudo exitnode ${command}`,
    });
}

export async function requireTools(exec: Exec, tools: typeof TOOLS = TOOLS): Promise<void> {
  const look = 'for tool in "$@"; do command -v "$tool" >/dev/null || echo "$tool"; done';
  const { stdout } = await exec.run(["sh", "-c", look, "sh", ...tools.map(({ tool }) => tool)], {
    env: { PATH: TOOL_PATH },
  });
  const missing = missingPackages(
    stdout.split("\n").filter((line) => line !== ""),
    tools,
  );
  if (missing.length > 0)
    throw new Failure(
      "lab-packages-missing",
      `the lab needs Debian packages that are not here: ${missing.join(", ")}`,
      {
        advice: `apt-get install ${missing.join(" ")}`,
      },
    );
}

export function missingPackages(missing: readonly string[], tools: typeof TOOLS = TOOLS): string[] {
  return tools.filter(({ tool }) => missing.includes(tool)).map((needed) => needed.package);
}
