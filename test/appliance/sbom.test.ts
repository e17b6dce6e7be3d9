import assert from "node:assert/strict";
import { test } from "node:test";
import { bundledForContainers } from "../../src/appliance/bundled.js";
import { licencesOf, parseLicences } from "../../src/appliance/licences.js";
import { renderSbom, type SbomFacts } from "../../src/appliance/sbom.js";
import { Failure } from "../../src/kit/failure.js";

const FACTS: SbomFacts = {
  image: {
    name: "debian-13-exitnode_1.2.3_amd64.tar.xz",
    version: "1.2.3",
    suite: "trixie",
    architecture: "amd64",
    sha512: "0123456789abcdef".repeat(8),
    packages: [
      { name: "adduser", version: "3.152", installedKiB: 1, architecture: "all" },
      {
        name: "libstdc++6",
        version: "1:14.2.0-19+b1",
        installedKiB: 1,
        architecture: "amd64",
        source: { name: "gcc-14", version: "14.2.0-19" },
      },
    ],
  },
  release: 13,
  epoch: 1_767_225_600,
  licences: new Map([["adduser", ["GPL-2+"]]]),
  bundled: {
    "agent.js": [
      { name: "@noble/ciphers", version: "2.4.0", license: "MIT" },
      { name: "yaml", version: "2.9.1" },
    ],
  },
};

test("the whole list of parts of a small image is this", () => {
  assert.deepEqual(JSON.parse(renderSbom(FACTS)), {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    serialNumber: "urn:uuid:01234567-89ab-8def-8123-456789abcdef",
    version: 1,
    metadata: {
      timestamp: "2026-01-01T00:00:00.000Z",
      tools: { components: [{ type: "application", name: "exitnode", version: "1.2.3" }] },
      component: {
        type: "container",
        "bom-ref": "debian-13-exitnode_1.2.3_amd64.tar.xz",
        name: "debian-13-exitnode",
        version: "1.2.3",
        hashes: [{ alg: "SHA-512", content: FACTS.image.sha512 }],
      },
    },
    components: [
      {
        type: "operating-system",
        "bom-ref": "debian-13",
        name: "debian",
        version: "13",
        description: 'Debian 13 "trixie", amd64',
      },
      {
        type: "library",
        "bom-ref": "pkg:deb/debian/adduser@3.152?arch=all&distro=debian-13",
        name: "adduser",
        version: "3.152",
        licenses: [{ license: { id: "GPL-2.0-or-later" } }],
        purl: "pkg:deb/debian/adduser@3.152?arch=all&distro=debian-13",
        properties: [{ name: "debian:architecture", value: "all" }],
      },
      {
        type: "library",
        "bom-ref":
          "pkg:deb/debian/libstdc%2B%2B6@1:14.2.0-19%2Bb1?arch=amd64&distro=debian-13&upstream=gcc-14%4014.2.0-19",
        name: "libstdc++6",
        version: "1:14.2.0-19+b1",
        purl: "pkg:deb/debian/libstdc%2B%2B6@1:14.2.0-19%2Bb1?arch=amd64&distro=debian-13&upstream=gcc-14%4014.2.0-19",
        properties: [
          { name: "debian:architecture", value: "amd64" },
          { name: "debian:source", value: "gcc-14 14.2.0-19" },
        ],
      },
      {
        type: "application",
        "bom-ref": "bundle/agent.js",
        name: "agent.js",
        version: "1.2.3",
        description: "brought into the container when it is made",
        components: [
          {
            type: "library",
            "bom-ref": "bundle/agent.js/@noble/ciphers@2.4.0",
            group: "@noble",
            name: "ciphers",
            version: "2.4.0",
            licenses: [{ expression: "MIT" }],
            purl: "pkg:npm/%40noble/ciphers@2.4.0",
          },
          {
            type: "library",
            "bom-ref": "bundle/agent.js/yaml@2.9.1",
            name: "yaml",
            version: "2.9.1",
            purl: "pkg:npm/yaml@2.9.1",
          },
        ],
      },
    ],
  });
});

test("licence terms become SPDX identifiers where SPDX has one, each once, and keep their words where not", () => {
  assert.deepEqual(licencesOf(["GPL-2+ or Artistic", "Expat", "MIT", "public-domain"]), [
    { id: "Artistic-1.0-Perl" },
    { id: "GPL-2.0-or-later" },
    { id: "MIT" },
    { name: "public-domain" },
  ]);
});

test("License lines are sorted to their packages, and a line of prose to none", () => {
  const lines = "zlib1g/copyright:License: Zlib\nbash/copyright:License:\nzlib1g/copyright:License: GPL-3+\n";
  assert.deepEqual(parseLicences(lines), new Map([["zlib1g", ["Zlib", "GPL-3+"]]]));
});

test("what is bundled into the command line does not go into containers", () => {
  const one = [{ name: "yaml", version: "2.9.1" }];
  const text = JSON.stringify({ "exitnode.js": one, "agent.js": one });
  assert.deepEqual(bundledForContainers(text), { "agent.js": one });
  assert.throws(
    () => bundledForContainers("{"),
    (error) => error instanceof Failure && error.code === "package-incomplete",
  );
});
