import { chownSync, mkdirSync, rmSync } from "node:fs";
import { shellWord } from "../../kit/shell.js";
import { MINUTE } from "../../kit/time.js";
import { asContainerRoot, ID_BASE, mustRunProgram, runProgram } from "./program.js";

/**
 * A container's root directory, owned by the shifted root. Everything is unpacked, written and read as that user in
 * its own user namespace: whatever links a template holds, they lead nowhere its own files do not.
 */
export type RootFile = { readonly path: string; readonly content: string; readonly mode: number };

/** A full disk fails once for each file: this many of the last lines are told. */
const LOGGED_LINES_MAX = 5;
/** How long a root directory may take to be copied, packed or unpacked. */
const COPY_TIMEOUT_MS = 10 * MINUTE;

export function makeRoot(root: string): void {
  mkdirSync(root, { recursive: true, mode: 0o755 });
  chownSync(root, ID_BASE, ID_BASE);
}

export function removeRoot(root: string): void {
  rmSync(root, { recursive: true, force: true });
}

const DECOMPRESSORS: Readonly<Record<string, string>> = {
  zst: "/usr/bin/zstd",
  gz: "/bin/gzip",
  xz: "/usr/bin/xz",
  bz2: "/bin/bzip2",
};

/** Unpacks an archive as Proxmox does, without its device nodes; the answer is tar's summary line. */
export async function unpack(
  root: string,
  archive: string,
  signal: AbortSignal,
  options: { without?: readonly string[]; say?: (line: string) => void } = {},
): Promise<string> {
  const decompressor = DECOMPRESSORS[/\.tar\.(\w+)$/.exec(archive)?.[1] ?? ""];
  const argv = [
    ...["/usr/bin/tar", "xpf", archive, "--totals", "--numeric-owner", "--acls"],
    ...["--xattrs", "--xattrs-include=user.*", "--xattrs-include=security.capability"],
    ...["--anchored", "--exclude", "./dev/*", ...(options.without ?? []).flatMap((path) => ["--exclude", path])],
    ...["-C", root],
    ...(decompressor === undefined ? [] : ["-I", decompressor]),
  ];
  const { exitCode, stderr } = await runProgram(asContainerRoot(argv), { signal, timeoutMs: COPY_TIMEOUT_MS });
  const lines = stderr.split("\n");
  if (exitCode !== 0) {
    // What went wrong is in the log only, as there.
    const said = lines.filter((line) => /^(?:\S*\/)?tar: /.test(line)).slice(-LOGGED_LINES_MAX);
    for (const line of said) options.say?.(line.replace(/^\S*\/tar: /, "tar: "));
    throw new Error(`command '${asContainerRoot(argv).join(" ")}' failed: exit code ${exitCode}`);
  }
  return lines.find((line) => line.startsWith("Total bytes read")) ?? "";
}

/** A second root directory with the same content, owners and attributes. */
export async function copyRoot(from: string, to: string, signal?: AbortSignal): Promise<void> {
  makeRoot(to);
  const argv = asContainerRoot(["/usr/bin/cp", "-a", "--reflink=auto", `${from}/.`, `${to}/`]);
  await mustRunProgram(argv, { timeoutMs: COPY_TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) });
}

const COMPRESSORS: Readonly<Record<string, readonly string[]>> = {
  "tar.zst": ["/usr/bin/zstd", "--threads=1", "-q"],
  "tar.gz": ["/bin/gzip"],
  tar: ["/bin/cat"],
};

/**
 * Packs a root directory as vzdump does: first the configuration out of `folder`, then what the container holds,
 * without what is temporary. The answer is tar's summary line.
 */
export async function pack(
  root: string,
  folder: string,
  archive: { readonly path: string; readonly format: string },
  signal: AbortSignal,
): Promise<string> {
  const tar = asContainerRoot([
    ...["/usr/bin/tar", "cpf", "-", "--totals", "--one-file-system", "-p", "--sparse", "--numeric-owner", "--acls"],
    ...["--xattrs", "--xattrs-include=user.*", "--xattrs-include=security.capability"],
    ...["--warning=no-file-ignored", "--warning=no-xattr-write", "--warning=no-file-changed"],
    ...[`--directory=${folder}`, "./etc/vzdump/pct.conf", `--directory=${root}`],
    ...["--no-anchored", "--exclude=lost+found", "--anchored"],
    ...["--exclude=./tmp/?*", "--exclude=./var/tmp/?*", "--exclude=./var/run/?*.pid", "./"],
  ]);
  const compress = COMPRESSORS[archive.format] ?? [];
  const words = [...tar, ...["|"], ...compress].map((word) => (word === "|" ? word : shellWord(word))).join(" ");
  const script = `set -o pipefail; ${words} > ${shellWord(archive.path)}`;
  const { stderr } = await mustRunProgram(["/bin/bash", "-c", script], { signal, timeoutMs: COPY_TIMEOUT_MS });
  return stderr.split("\n").find((line) => line.startsWith("Total bytes written")) ?? "";
}

/** A file at the head of an archive, such as the configuration in a backup. */
export async function readPacked(archive: string, path: string): Promise<string | undefined> {
  const decompressor = DECOMPRESSORS[/\.tar\.(\w+)$/.exec(archive)?.[1] ?? ""];
  const compressed = decompressor === undefined ? [] : ["-I", decompressor];
  const ran = await runProgram(["/usr/bin/tar", "-xOf", archive, ...compressed, "--occurrence=1", path]);
  return ran.exitCode === 0 ? `${ran.stdout}\n` : undefined;
}

/** Replaces files inside the root. Contents travel on stdin: some are private keys. */
export async function writeRootFiles(root: string, files: readonly RootFile[]): Promise<void> {
  const script = files.map(({ path, content, mode }) => {
    const target = shellWord(`${root}${path}`);
    const encoded = Buffer.from(content).toString("base64");
    return [
      `/usr/bin/mkdir -p ${shellWord(`${root}${path.slice(0, path.lastIndexOf("/"))}`)}`,
      `/usr/bin/rm -f ${target}`,
      `echo '${encoded}' | /usr/bin/base64 -d > ${target}`,
      `/usr/bin/chmod ${mode.toString(8)} ${target}`,
    ].join("\n");
  });
  await mustRunProgram(asContainerRoot(["/bin/sh", "-e"]), { input: `umask 077\n${script.join("\n")}\n` });
}

/** The text of a file inside the root; undefined when it is not there. */
export async function readRootFile(root: string, path: string): Promise<string | undefined> {
  const ran = await runProgram(asContainerRoot(["/usr/bin/cat", `${root}${path}`]));
  return ran.exitCode === 0 ? `${ran.stdout}\n` : undefined;
}

export async function rootHas(root: string, path: string): Promise<boolean> {
  return (await runProgram(asContainerRoot(["/usr/bin/test", "-e", `${root}${path}`]))).exitCode === 0;
}
