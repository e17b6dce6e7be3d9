import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";
import { appConfig } from "../../src/cli/appconfig.js";
import { qrText } from "../../src/cli/qrtext.js";
import { SCREEN_COLUMNS } from "../../src/cli/table.js";
import type { Cidr, Ip } from "../../src/kit/ip.js";
import type { Key } from "../../src/kit/key.js";
import type { AddedApp } from "../../src/wire/adminapi.js";

/** The package is a function in a CommonJS module, which its types call a default export. */
type ReadQr = (pixels: Uint8ClampedArray, width: number, height: number) => { readonly data: string } | null;
const readQr = createRequire(import.meta.url)("jsqr") as ReadQr;

const KEY = "GE8kOeQmyGaRQ0iUqLl3l5ydnJ2QmFvpIHoCWgqDHGk=" as Key;
/** As long as they get. */
const APP: AddedApp = {
  ...{ id: "d1", name: "phone", role: "device", publicKey: KEY, routes: [], endpoints: [], online: false },
  ...{ agentVersion: "", createdAtMs: 0, tags: [], ephemeral: false },
  addresses: ["100.127.255.254", "fd12:3456:789a::3f:fffe"] as Ip[],
  app: { exit: "home", endpoint: "[2001:db8:1234:5678:9abc:def0:1234:5678]:51820" },
  tunnel: {
    exitKey: KEY,
    ranges: ["100.64.0.0/10", "fd12:3456:789a::/48"] as Cidr[],
    resolvers: ["192.168.100.100", "fd12:3456:789a:1111:2222:3333:4444:5555"] as Ip[],
    mtu: 1280,
  },
};

const PIXELS = 4;
const SHOWN: Readonly<Record<string, readonly [upper: boolean, lower: boolean]>> = {
  "█": [true, true],
  "▀": [true, false],
  "▄": [false, true],
  " ": [false, false],
};

/** What a camera sees of the text: `ink` and `paper` are how bright a block and what is around it are. */
function photographed(text: string, ink: number, paper: number): string | undefined {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken away
  const lines = text.replaceAll(/\u001b\[[0-9;]*m/g, "").split("\n");
  const rows = lines.flatMap((line) => {
    const pairs = [...line].map((character) => SHOWN[character] ?? assert.fail(`not a block: "${character}"`));
    return [pairs.map(([upper]) => upper), pairs.map(([, lower]) => lower)];
  });
  const width = (rows[0]?.length ?? 0) * PIXELS;
  const pixels = new Uint8ClampedArray(width * rows.length * PIXELS * 4);
  for (let at = 0; at < pixels.length; at += 4) {
    const [x, y] = [Math.floor(((at / 4) % width) / PIXELS), Math.floor(at / 4 / width / PIXELS)];
    pixels.fill(rows[y]?.[x] ? ink : paper, at, at + 3);
    pixels[at + 3] = 255;
  }
  return readQr(pixels, width, rows.length * PIXELS)?.data;
}

test("what a camera reads of the code is the very configuration, whatever the terminal's colours are", () => {
  const config = appConfig(APP, KEY, false);
  assert.equal(photographed(qrText(config, true), 0, 255), config);
});

test("where it is not painted, it is read from a dark screen", () => {
  const config = appConfig(APP, KEY, true);
  assert.equal(photographed(qrText(config, false), 255, 0), config);
});

test("the longest configuration that there is fits on a screen of 80 columns", () => {
  const lines = qrText(appConfig(APP, KEY, false), false).split("\n");
  assert.ok((lines[0]?.length ?? 0) <= SCREEN_COLUMNS, `${lines[0]?.length} columns`);
});
