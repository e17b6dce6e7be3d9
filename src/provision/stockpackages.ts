import { Failure } from "../kit/failure.js";
import { MINUTE, type Millis } from "../kit/time.js";
import { MASKED_UNITS } from "../netconf/containerfiles.js";

/**
 * A container of a template that is not ours, such as Debian's own: what the daemons need and it lacks, and the
 * commands that bring it. Out of our template nothing is missing, and nothing is planned.
 */
export type Stock = {
  /** ID and VERSION_ID of os-release(5), "debian 13"; undefined where there is none. */
  readonly system: string | undefined;
  /** Installed ones, with their versions. */
  readonly packages: ReadonlyMap<string, string>;
  readonly masked: ReadonlySet<string>;
};

export type StockStep = {
  readonly words: string;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly timeoutMs: Millis;
};

/** Of the appliance's packages, those that a daemon, its files or a look inside uses (appliance/recipe.yaml has all). */
export const STOCK_PACKAGES: readonly string[] = [
  "nodejs",
  "nftables",
  "wireguard-tools",
  "iproute2",
  "openssh-server",
  "ca-certificates",
  "procps",
];

/** What the bundles are made for (engines in package.json). */
const NODE_MIN = [20, 19] as const;
/** The first Debian whose nodejs is new enough; it is also the one that is told of when another was taken. */
const DEBIAN_MIN = 13;
/** 55 MB of packages over a slow line; the first boot may hold dpkg's lock meanwhile. */
const INSTALL_TIMEOUT_MS: Millis = 10 * MINUTE;
const LOCK_WAIT_S = 300;
const QUIET = { DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C.UTF-8" };
const MASK_TIMEOUT_MS: Millis = MINUTE;

/** For a section of the look inside: one fact a line, as `parseStock` reads them. */
export const STOCK_LOOK = [
  `(. /etc/os-release 2>/dev/null && printf 'system %s %s\\n' "$ID" "$VERSION_ID")`,
  // A package that was removed and left its configuration is no package.
  `dpkg-query -W -f 'package \${db:Status-Status} \${Package} \${Version}\\n' ${STOCK_PACKAGES.join(" ")} 2>/dev/null`,
  "find /etc/systemd/system -maxdepth 1 -lname /dev/null -printf 'masked %f\\n' 2>/dev/null",
].join("\n");

export function parseStock(lines: readonly string[]): Stock {
  const after = (start: string): string[] =>
    lines.filter((line) => line.startsWith(start)).map((line) => line.slice(start.length).trim());
  return {
    system: after("system ")[0],
    packages: new Map(
      after("package installed ").map((line): [string, string] => {
        const [name = "", version = ""] = line.split(" ");
        return [name, version];
      }),
    ),
    masked: new Set(after("masked ")),
  };
}

/** What is left to do, in order; a system that cannot have it is refused before anything is installed. */
export function planStock({ system, packages, masked }: Stock): StockStep[] {
  const lacking = STOCK_PACKAGES.filter((name) => !packages.has(name));
  const units = MASKED_UNITS.filter((unit) => !masked.has(unit));
  if (lacking.length > 0) refuseOther(system);
  refuseOldNode(packages.get("nodejs"));
  const apt = ["apt-get", "-q", "-y", "-o", `DPkg::Lock::Timeout=${LOCK_WAIT_S}`, "-o", "Acquire::Retries=3"];
  const steps: StockStep[] = [];
  if (lacking.length > 0)
    steps.push(
      { words: "read the package lists", argv: [...apt, "update"], env: QUIET, timeoutMs: INSTALL_TIMEOUT_MS },
      {
        words: `install ${lacking.join(", ")}`,
        argv: [...apt, "--no-install-recommends", "install", ...lacking],
        env: QUIET,
        timeoutMs: INSTALL_TIMEOUT_MS,
      },
    );
  // Without --now: what runs already, our own connection among it, is left alone until the next boot.
  if (units.length > 0)
    steps.push({
      words: `mask ${units.join(", ")}`,
      argv: ["systemctl", "mask", ...units],
      env: {},
      timeoutMs: MASK_TIMEOUT_MS,
    });
  return steps;
}

/** What a step's failure means; apt's last words say which archive did not answer. */
export function explainStockFailure({ words }: StockStep, name: string, said: string): Failure {
  const end = said.trim().split("\n").slice(-4).join("; ").slice(-600);
  if (
    /Could not resolve|Temporary failure|Unable to (?:connect|fetch)|Failed to fetch|Network is unreachable/i.test(said)
  )
    return new Failure("archive-unreachable", `"${name}" cannot ${words}: ${end}`, {
      advice:
        "a container of another template than ours needs the Internet once; or take ours: exitnode appliance build, and leave --template out",
    });
  return new Failure("packages-failed", `"${name}" cannot ${words}: ${end}`, {
    advice: `look inside, on the Proxmox host: pct enter VMID, then: apt-get -f install; then run create again`,
  });
}

function refuseOther(system: string | undefined): void {
  const [id = "", release = ""] = (system ?? "").split(" ");
  if (id === "debian" && Number.parseInt(release, 10) >= DEBIAN_MIN) return;
  throw new Failure(
    "template-unfit",
    `the template is ${system ?? "no system that tells its name"}, expected Debian ${DEBIAN_MIN}`,
    { advice: "leave --template out to take ours, or name Debian's: --template local:vztmpl/debian-13-standard_…" },
  );
}

function refuseOldNode(version: string | undefined): void {
  const [major = 0, minor = 0] = (version ?? "").split(/[.~+-]/).map(Number);
  if (version === undefined || major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1])) return;
  throw new Failure("node-too-old", `the container has nodejs ${version}, expected ${NODE_MIN.join(".")} or newer`, {
    advice:
      "inside, on the Proxmox host: pct enter VMID, then upgrade it to Debian 13, or start over with our template",
  });
}
