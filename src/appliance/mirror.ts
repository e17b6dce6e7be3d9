import { Failure } from "../kit/failure.js";
import type { ArchiveSource } from "./recipe.js";

/**
 * Where packages come from: the mirror that this machine's own apt uses. A machine behind a local mirror, without
 * the Internet, then builds as it installs.
 */

/** Asks apt for every archive it knows: label and address, one a line. */
export const APT_TARGETS_ARGV: readonly string[] = [
  "apt-get",
  "indextargets",
  "--format",
  "$(LABEL)\t$(REPO_URI)",
  "Created-By: Packages",
];

/** Debian's archive and its security archive, with the three suites of a release; `mirror` overrules what apt said. */
export function archiveSources(targets: string, suite: string, mirror?: string): ArchiveSource[] {
  const known = new Map<string, string>();
  for (const line of targets.split("\n")) {
    const [label = "", uri = ""] = line.split("\t");
    // A URI with a space would end the sources line; cdrom: and file: have no other release than their own.
    if (/^[a-z0-9+]+:\/\/\S+$/.test(uri) && !/^(cdrom|file|copy):/.test(uri) && !known.has(label))
      known.set(label, uri);
  }
  const main = mirror ?? known.get("Debian");
  if (main === undefined)
    throw new Failure("archive-unknown", "apt on this machine has no Debian archive to take packages from", {
      advice: "exitnode appliance build --mirror http://<a Debian mirror>/debian",
    });
  const security = known.get("Debian-Security");
  return [
    { uri: main, suite },
    { uri: main, suite: `${suite}-updates` },
    ...(security === undefined ? [] : [{ uri: security, suite: `${suite}-security` }]),
  ];
}

/** What mmdebstrap's failure means, where it is one that a person can mend. */
export function explainBuildFailure(stderr: string, suite: string, keyring: string): Failure {
  const end = stderr.trim().split("\n").slice(-12).join("\n");
  if (/NO_PUBKEY|Missing key|no(?:t| valid) (?:signed|OpenPGP)|couldn't be verified/i.test(stderr))
    return new Failure("archive-key-missing", `the keyring ${keyring} lacks the key that signed ${suite}: ${end}`, {
      advice: "apt-get update && apt-get install debian-archive-keyring",
    });
  if (
    /does not have a Release file|404 +Not Found|Unable to (?:fetch|connect)|Could not resolve|Temporary failure/i.test(
      stderr,
    )
  )
    return new Failure("archive-unreachable", `packages of ${suite} could not be fetched: ${end}`, {
      advice: "apt-get update   (when that works, try again; or name another archive with --mirror)",
    });
  return new Failure("appliance-build-failed", `mmdebstrap failed: ${end}`);
}
