package tuf_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/internal/storepath"
)

// TestConformance has the cases of the TUF conformance test suite
// (https://github.com/theupdateframework/tuf-conformance) by their names, with
// what they expect of a client. notConformant lists those that this client
// does not pass, and why.
func TestConformance(t *testing.T) {
	cases := conformanceCases()
	for name, reason := range notConformant() {
		if cases[name] != nil {
			t.Errorf("%s is said not to pass (%s), but has a test", name, reason)
		}
	}
	for name, test := range cases {
		t.Run(name, test)
	}
	if n := len(cases) + len(notConformant()); n != 53 {
		t.Errorf("%d cases; the suite has 53 test functions", n)
	}
}

// notConformant lists the cases of the suite that ask for what the catalog
// does without.
func notConformant() map[string]string {
	return map[string]string{
		"test_keytype_and_scheme":            "RSA and ECDSA keys: ed25519 alone fits onto the medium; the ed25519 part is TestConformance/test_keytype_ed25519",
		"test_unusual_role_name":             "such role names are refused: they are parts of paths; see TestRoleNames",
		"test_static_repository":             "the repositories of other projects have ECDSA keys",
		"test_artifact_cache":                "preboot/cache keeps targets; this package reads none",
		"test_download_with_hash_algorithms": "a target's path in the store is its SHA-256, so that one is needed; see catalog.TestHashes",
		"test_faketime":                      "about the suite itself; the time is a parameter here",
	}
}

// must ends the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused checks that an update was refused for the reason want; nil: any.
func refused(t *testing.T, err, want error) {
	t.Helper()
	if err == nil {
		t.Error("the update was accepted")
	} else if want != nil && !errors.Is(err, want) {
		t.Errorf("refused with %v; want %v", err, want)
	}
}

// versions checks which versions a client trusts: pairs of role and version.
func (c *client) expect(t *testing.T, want string) {
	t.Helper()
	var got []string
	for _, role := range []string{tuf.RoleRoot, tuf.RoleTimestamp, tuf.RoleSnapshot, tuf.RoleTargets} {
		if v := c.version(t, role); v > 0 {
			got = append(got, fmt.Sprintf("%s %d", role, v))
		}
	}
	if diff := cmp.Diff(want, strings.Join(got, ", ")); diff != "" {
		t.Errorf("trusted versions (-want +got):\n%s", diff)
	}
}

func conformanceCases() map[string]func(t *testing.T) {
	// role in its next version with a wrong signature, and what is trusted then.
	unsigned := map[string]string{
		tuf.RoleRoot: "root 1", tuf.RoleTimestamp: "root 2", tuf.RoleSnapshot: "root 2, timestamp 2",
		tuf.RoleTargets: "root 2, timestamp 2, snapshot 2",
	}
	return map[string]func(t *testing.T){
		"test_basic_refresh_requests": func(t *testing.T) {
			s := newSim()
			must(t, newClient(s).refresh(s))
			if diff := cmp.Diff([]string{"2.root", "timestamp", "1.snapshot", "1.targets"}, s.requests()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		},
		"test_basic_refresh_trusted_data": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			must(t, c.refresh(s))
			for path, data := range s.files {
				if string(c.kept[path]) != string(data) {
					t.Errorf("%s is not kept as it came", path)
				}
			}
		},
		"test_implicit_refresh": func(t *testing.T) {
			// An update comes before each look-up: there is nothing else to look into.
			s := newSim()
			c := newClient(s)
			must(t, c.refresh(s))
			if _, _, err := c.lookup("nonexistent artifact"); !errors.Is(err, tuf.ErrNotFound) {
				t.Errorf("Lookup() = %v; want ErrNotFound", err)
			}
			c.expect(t, "root 1, timestamp 1, snapshot 1, targets 1")
		},
		"test_invalid_initial_root": func(t *testing.T) {
			s := newSim()
			s.edit(storepath.RoleMetadata(tuf.RoleRoot, 1), func(d map[string]any) { delete(d["signed"].(map[string]any), "version") })
			refused(t, newClient(s).refresh(s), tuf.ErrFormat)
			if r := s.requests(); r != nil {
				t.Errorf("requests: %v", r)
			}
		},
		"test_unsigned_initial_root": func(t *testing.T) {
			s := newSim()
			s.edit(storepath.RoleMetadata(tuf.RoleRoot, 1), func(d map[string]any) {
				d["signatures"].([]any)[0].(map[string]any)["sig"] = strings.Repeat("30", 72)
			})
			refused(t, newClient(s).refresh(s), tuf.ErrSignature)
			if r := s.requests(); r != nil {
				t.Errorf("requests: %v", r)
			}
		},
		"test_unsigned_metadata": func(t *testing.T) {
			for role, want := range unsigned {
				s := newSim()
				c := newClient(s)
				s.signers[role] = nil
				s.all()
				refused(t, c.refresh(s), tuf.ErrUnknownKey)
				c.expect(t, want)
			}
		},
		"test_url_and_metadata_version_mismatch": func(t *testing.T) {
			for _, role := range []string{tuf.RoleRoot, tuf.RoleSnapshot, tuf.RoleTargets} {
				s := newSim()
				c := newClient(s)
				s.all()
				// Version 3 is served as version 2.
				old := storepath.RoleMetadata(role, 2)
				s.publish(role)
				s.files[old] = s.files[storepath.RoleMetadata(role, 3)]
				delete(s.files, storepath.RoleMetadata(role, 3))
				refused(t, c.refresh(s), tuf.ErrMismatch)
				c.expect(t, unsigned[role])
			}
		},
		"test_timestamp_content_changes": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			must(t, c.refresh(s))
			s.timestamp.Signed.Meta["snapshot.json"].Version = 100
			s.sign(tuf.RoleTimestamp)
			must(t, c.refresh(s))
			c.expect(t, "root 1, timestamp 1, snapshot 1, targets 1")
		},
		"test_basic_metadata_hash_support": func(t *testing.T) {
			s := newSim()
			s.hashes = true
			s.publish(tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp)
			must(t, newClient(s).refresh(s))
		},
		"test_targets_hash_mismatch": func(t *testing.T) {
			s := newSim()
			s.hashes = true
			s.publish(tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp)
			c := newClient(s)
			must(t, c.refresh(s))
			s.publish(tuf.RoleTargets)
			s.snapshot.Signed.Meta["targets.json"].Hashes["sha256"] = make([]byte, 32)
			s.publish(tuf.RoleSnapshot, tuf.RoleTimestamp)
			refused(t, c.refresh(s), tuf.ErrMismatch)
			c.expect(t, "root 1, timestamp 3, snapshot 3, targets 2")
		},
		"test_snapshot_hash_mismatch": func(t *testing.T) {
			s := newSim()
			s.hashes = true
			s.publish(tuf.RoleSnapshot, tuf.RoleTimestamp)
			c := newClient(s)
			must(t, c.refresh(s))
			s.publish(tuf.RoleSnapshot)
			s.timestamp.Signed.Meta["snapshot.json"].Hashes["sha256"] = make([]byte, 32)
			s.publish(tuf.RoleTimestamp)
			refused(t, c.refresh(s), tuf.ErrMismatch)
			c.expect(t, "root 1, timestamp 3, targets 1")
		},
		"test_metadata_bytes_match": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			s.files[storepath.Timestamp] = append(s.files[storepath.Timestamp], ' ')
			must(t, c.refresh(s))
			if string(c.kept[storepath.Timestamp]) != string(s.files[storepath.Timestamp]) {
				t.Error("the timestamp is not kept as it came")
			}
		},
		"test_custom_fields": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			must(t, c.refresh(s))
			s.root.Signed.UnrecognizedFields = map[string]any{"custom-field": "value"}
			s.root.Signed.Roles[tuf.RoleRoot].UnrecognizedFields = map[string]any{"another-field": map[string]any{"a": 1, "b": 2}}
			s.publish(tuf.RoleRoot)
			must(t, c.refresh(s))
			c.expect(t, "root 2, timestamp 1, snapshot 1, targets 1")
		},
		"test_deprecated_keyid_hash_algorithms": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			s.rotate(tuf.RoleSnapshot)
			for _, k := range s.root.Signed.Keys {
				k.UnrecognizedFields = map[string]any{"keyid_hash_algorithms": "md5"}
			}
			s.publish(tuf.RoleRoot, tuf.RoleSnapshot, tuf.RoleTimestamp)
			must(t, c.refresh(s))
			c.expect(t, "root 2, timestamp 2, snapshot 2, targets 1")
		},
		"test_snapshot_404": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			must(t, c.refresh(s))
			s.timestamp.Signed.Meta["snapshot.json"].Version = 2
			s.publish(tuf.RoleTimestamp)
			refused(t, c.refresh(s), nil)
			c.expect(t, "root 1, timestamp 2, targets 1") // the kept snapshot is not the timestamp's
		},
		"test_targets_404": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			must(t, c.refresh(s))
			s.snapshot.Signed.Meta["targets.json"].Version = 2
			s.publish(tuf.RoleSnapshot, tuf.RoleTimestamp)
			refused(t, c.refresh(s), nil)
			c.expect(t, "root 1, timestamp 2, snapshot 2, targets 1")
		},
		"test_timestamp_404": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			must(t, c.refresh(s))
			s.remove(tuf.RoleTimestamp)
			refused(t, c.refresh(s), nil)
			c.expect(t, "root 1, timestamp 1, snapshot 1, targets 1")
		},
		"test_incorrect_metadata_type": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			s.signers[tuf.RoleSnapshot] = append(s.signers[tuf.RoleSnapshot], s.signers[tuf.RoleTimestamp]...)
			s.snapshot.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": {Version: 1}}
			s.publish(tuf.RoleRoot, tuf.RoleSnapshot)
			s.files[storepath.Timestamp] = s.files[storepath.RoleMetadata(tuf.RoleSnapshot, 2)]
			refused(t, c.refresh(s), tuf.ErrFormat)
			c.expect(t, "root 2")
		},

		"test_root_expired": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			s.root.Signed.Expires = epoch.Add(-time.Hour)
			s.publish(tuf.RoleRoot, tuf.RoleTimestamp)
			refused(t, c.refresh(s), tuf.ErrExpired)
			c.expect(t, "root 2")
		},
		"test_timestamp_expired": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			s.timestamp.Signed.Expires = epoch.Add(-time.Hour)
			s.publish(tuf.RoleTimestamp)
			refused(t, c.refresh(s), tuf.ErrExpired)
			c.expect(t, "root 1")
		},
		"test_snapshot_expired": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			s.snapshot.Signed.Expires = epoch.Add(-time.Hour)
			s.publish(tuf.RoleSnapshot, tuf.RoleTimestamp)
			refused(t, c.refresh(s), tuf.ErrExpired)
			c.expect(t, "root 1, timestamp 2")
		},
		"test_targets_expired": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			s.targets[tuf.RoleTargets].Signed.Expires = epoch.Add(-time.Hour)
			s.publish(tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp)
			refused(t, c.refresh(s), tuf.ErrExpired)
			c.expect(t, "root 1, timestamp 2, snapshot 2")
		},
		"test_expired_local_root": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			s.root.Signed.Expires = epoch.AddDate(0, 0, 7)
			s.publish(tuf.RoleRoot)
			must(t, c.refresh(s))
			s.root.Signed.Expires = epoch.AddDate(0, 0, 21)
			s.publish(tuf.RoleRoot)
			c.now = epoch.AddDate(0, 0, 18)
			must(t, c.refresh(s))
			c.expect(t, "root 3, timestamp 1, snapshot 1, targets 1")
		},
		"test_expired_local_timestamp": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			s.timestamp.Signed.Expires = epoch.AddDate(0, 0, 7)
			s.publish(tuf.RoleTimestamp)
			must(t, c.refresh(s))
			s.timestamp.Signed.Expires = epoch.AddDate(0, 0, 21)
			s.publish(tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp)
			c.now = epoch.AddDate(0, 0, 18)
			must(t, c.refresh(s))
			c.expect(t, "root 1, timestamp 3, snapshot 2, targets 2")
		},

		"test_client_downloads_expected_file":            func(t *testing.T) { lookupCase(t, "file.txt") },
		"test_client_downloads_expected_file_in_sub_dir": func(t *testing.T) { lookupCase(t, "path/to/a/file.txt") },
		"test_repository_substitutes_target_file": func(t *testing.T) {
			s := newSim()
			s.add(tuf.RoleTargets, "f", "good")
			s.publish(tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp)
			c := newClient(s)
			must(t, c.refresh(s))
			f, _, err := c.lookup("f")
			must(t, err)
			must(t, f.Check("f", []byte("good")))
			for _, bad := range []string{"goof", "good ", "goo", ""} {
				if err := f.Check("f", []byte(bad)); !errors.Is(err, tuf.ErrMismatch) {
					t.Errorf("Check(%q) = %v; want ErrMismatch", bad, err)
				}
			}
		},
		"test_multiple_changes_to_target": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			for i := range 10 {
				content := strings.Repeat("x", i+1)
				s.add(tuf.RoleTargets, "f", content)
				must(t, c.refresh(s)) // not published yet
				if i > 0 {
					f, _, err := c.lookup("f")
					must(t, err)
					must(t, f.Check("f", []byte(content[1:])))
				}
				s.publish(tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp)
				must(t, c.refresh(s))
				f, _, err := c.lookup("f")
				must(t, err)
				must(t, f.Check("f", []byte(content)))
			}
		},
		"test_download_with_unknown_hash_algorithm": func(t *testing.T) {
			s := newSim()
			s.targets[tuf.RoleTargets].Signed.Targets["f"] = &metadata.TargetFiles{Length: 1, Hashes: metadata.Hashes{"sha3": []byte("x")}}
			s.publish(tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp)
			c := newClient(s)
			must(t, c.refresh(s))
			f, _, err := c.lookup("f")
			must(t, err)
			if err := f.Check("f", []byte("x")); !errors.Is(err, tuf.ErrMismatch) {
				t.Errorf("Check() = %v; want ErrMismatch", err)
			}
		},

		"test_snapshot_does_not_meet_threshold": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			must(t, c.refresh(s))
			s.setKeys(tuf.RoleSnapshot, []int{20, 21, 22, 23}, 3, []int{20, 21})
			s.publish(tuf.RoleRoot, tuf.RoleSnapshot, tuf.RoleTimestamp)
			refused(t, c.refresh(s), tuf.ErrUnknownKey)
			c.expect(t, "root 2, timestamp 2, targets 1")
		},
		"test_snapshot_has_too_few_keys": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			s.setKeys(tuf.RoleSnapshot, []int{20, 21}, 6, []int{20, 21})
			s.publish(tuf.RoleRoot, tuf.RoleSnapshot, tuf.RoleTimestamp)
			refused(t, c.refresh(s), tuf.ErrUnknownKey)
			c.expect(t, "root 2, timestamp 2")
		},
		"test_duplicate_keys": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			s.setKeys(tuf.RoleSnapshot, []int{20}, 6, []int{20})
			r := s.root.Signed.Roles[tuf.RoleSnapshot]
			r.KeyIDs = slices.Repeat(r.KeyIDs, 9)
			s.publish(tuf.RoleRoot, tuf.RoleSnapshot, tuf.RoleTimestamp)
			refused(t, c.refresh(s), nil)
			// The same key under other ids is no other key, either.
			s = newSim()
			c = newClient(s)
			s.setKeys(tuf.RoleSnapshot, []int{20}, 2, []int{20})
			other := *s.root.Signed.Keys[keyID(20)]
			s.root.Signed.Keys["another-id"] = &other
			r = s.root.Signed.Roles[tuf.RoleSnapshot]
			r.KeyIDs = append(r.KeyIDs, "another-id")
			s.publish(tuf.RoleRoot, tuf.RoleSnapshot, tuf.RoleTimestamp)
			s.edit(storepath.RoleMetadata(tuf.RoleSnapshot, 2), func(d map[string]any) {
				sigs := d["signatures"].([]any)
				d["signatures"] = append(sigs, map[string]any{"keyid": "another-id", "sig": sigs[0].(map[string]any)["sig"]})
			})
			refused(t, c.refresh(s), tuf.ErrUnknownKey)
		},
		"test_duplicate_sig_keyids": func(t *testing.T) {
			s := newSim()
			s.edit(storepath.RoleMetadata(tuf.RoleSnapshot, 1), func(d map[string]any) {
				sigs := d["signatures"].([]any)
				d["signatures"] = append(sigs, sigs[0])
			})
			refused(t, newClient(s).refresh(s), tuf.ErrFormat)
		},
		"test_invalid_sig_in_valid_metadata": func(t *testing.T) {
			s := newSim()
			s.setKeys(tuf.RoleTimestamp, []int{20, 21}, 1, []int{20, 21})
			s.publish(tuf.RoleRoot, tuf.RoleTimestamp)
			c := newClient(s)
			for _, bad := range []string{strings.Repeat("ab", 64), ""} {
				s.publish(tuf.RoleTimestamp)
				s.edit(storepath.Timestamp, func(d map[string]any) { d["signatures"].([]any)[1].(map[string]any)["sig"] = bad })
				must(t, c.refresh(s))
			}
		},

		"test_new_timestamp_version_rollback": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			s.publish(tuf.RoleTimestamp)
			must(t, c.refresh(s))
			s.timestamp.Signed.Version = 1
			s.sign(tuf.RoleTimestamp)
			refused(t, c.refresh(s), tuf.ErrRollback)
			c.expect(t, "root 1, timestamp 2, snapshot 1, targets 1")
		},
		"test_snapshot_rollback": func(t *testing.T) {
			for _, hashes := range []bool{false, true} {
				s := newSim()
				c := newClient(s)
				s.hashes = hashes
				s.publish(tuf.RoleSnapshot, tuf.RoleTimestamp)
				must(t, c.refresh(s))
				s.remove(tuf.RoleSnapshot)
				s.snapshot.Signed.Version = 0
				s.publish(tuf.RoleSnapshot, tuf.RoleTimestamp)
				refused(t, c.refresh(s), tuf.ErrRollback)
				c.expect(t, "root 1, timestamp 2, snapshot 2, targets 1")
			}
		},
		"test_targets_role_removal": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			s.delegate(tuf.RoleTargets, "delegated", []string{"delegatedpath/*"}, false)
			s.publish("delegated", tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp)
			must(t, c.refresh(s))
			delete(s.snapshot.Signed.Meta, "delegated.json")
			s.publish(tuf.RoleSnapshot, tuf.RoleTimestamp)
			refused(t, c.refresh(s), tuf.ErrRollback)
		},
		"test_targets_fast_forward_recovery": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			s.delegate(tuf.RoleTargets, "delegated", []string{"delegatedpath/*"}, false)
			s.publish("delegated")
			for range 99 {
				s.publish(tuf.RoleTargets)
			}
			s.publish(tuf.RoleSnapshot, tuf.RoleTimestamp)
			must(t, c.refresh(s))
			s.rotate(tuf.RoleSnapshot)
			s.remove(tuf.RoleTargets)
			s.targets[tuf.RoleTargets].Signed.Version = 0
			delete(s.snapshot.Signed.Meta, "delegated.json")
			s.publish(tuf.RoleRoot, tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp)
			must(t, c.refresh(s))
			if v := c.set.Targets().Version(); v != 1 {
				t.Errorf("targets version %d; want 1", v)
			}
		},
		"test_new_snapshot_fast_forward_recovery": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			for range 99 {
				s.publish(tuf.RoleSnapshot)
			}
			s.publish(tuf.RoleTimestamp)
			must(t, c.refresh(s))
			s.rotate(tuf.RoleSnapshot)
			s.rotate(tuf.RoleTimestamp)
			s.remove(tuf.RoleSnapshot)
			s.snapshot.Signed.Version = 0
			s.publish(tuf.RoleRoot, tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp)
			must(t, c.refresh(s))
			c.expect(t, "root 2, timestamp 3, snapshot 1, targets 2")
		},
		"test_new_timestamp_fast_forward_recovery": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			for range 99 {
				s.publish(tuf.RoleTimestamp)
			}
			must(t, c.refresh(s))
			s.rotate(tuf.RoleTimestamp)
			s.timestamp.Signed.Version = 0
			s.publish(tuf.RoleRoot, tuf.RoleTimestamp)
			must(t, c.refresh(s))
			c.expect(t, "root 2, timestamp 1, snapshot 1, targets 1")
		},
		"test_targets_rollback": func(t *testing.T) {
			for _, hashes := range []bool{false, true} {
				s := newSim()
				c := newClient(s)
				s.hashes = hashes
				s.publish(tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp)
				must(t, c.refresh(s))
				s.remove(tuf.RoleTargets)
				s.targets[tuf.RoleTargets].Signed.Version = 0
				s.publish(tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp)
				refused(t, c.refresh(s), tuf.ErrRollback)
				c.expect(t, "root 1, timestamp 3, targets 2")
			}
		},

		"test_graph_traversal":   testGraphs,
		"test_targetfile_search": testSearch,
		"test_cached_role_is_verified_against_current_delegator": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			s.delegate(tuf.RoleTargets, "parent-a", []string{"team-a/*"}, false)
			s.delegate(tuf.RoleTargets, "parent-b", []string{"team-b/*"}, false)
			s.delegate("parent-a", "release", []string{"team-a/*"}, false)
			s.delegate("parent-b", "release", []string{"team-b/*"}, false)
			s.signers["release"] = s.signers["release"][:1] // parent-a's
			s.add("release", "team-a/trusted_root.json", "trusted A")
			s.add("release", "team-b/trusted_root.json", "malicious B")
			s.publish("release", "parent-a", "parent-b", tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp)
			must(t, c.refresh(s))
			_, _, err := c.lookup("team-a/trusted_root.json")
			must(t, err)
			if _, _, err := c.lookup("team-b/trusted_root.json"); !errors.Is(err, tuf.ErrUnknownKey) {
				t.Errorf("Lookup() by way of another delegator = %v; want ErrUnknownKey", err)
			}
		},
		"test_delegation_not_in_snapshot": func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			s.delegate(tuf.RoleTargets, "delegated", []string{"delegatedpath/*"}, false)
			s.publish("delegated", tuf.RoleTargets)
			delete(s.snapshot.Signed.Meta, "delegated.json")
			s.publish(tuf.RoleSnapshot, tuf.RoleTimestamp)
			must(t, c.refresh(s))
			s.requests()
			if _, _, err := c.lookup("delegatedpath/foo"); err == nil {
				t.Error("Lookup() in a role that the snapshot does not have succeeded")
			}
			if r := s.requests(); r != nil {
				t.Errorf("requests: %v", r)
			}
		},

		"test_root_rotation":      testRootRotation,
		"test_non_root_rotations": testRotations,
	}
}

func lookupCase(t *testing.T, name string) {
	s := newSim()
	s.add(tuf.RoleTargets, name, "content")
	s.publish(tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp)
	c := newClient(s)
	must(t, c.refresh(s))
	f, role, err := c.lookup(name)
	must(t, err)
	if err := f.Check(name, []byte("content")); err != nil || role != tuf.RoleTargets || f.Length != 7 {
		t.Errorf("Lookup() = %+v of %s, %v", f, role, err)
	}
}

// edge is a delegation of a graph.
type edge struct {
	from, to string
	paths    []string
	end      bool // terminating
}

func graph(s *sim, edges []edge) {
	for _, e := range edges {
		if e.paths == nil {
			e.paths = []string{"*"}
		}
		s.delegate(e.from, e.to, e.paths, e.end)
	}
	for name := range s.targets {
		s.publish(name)
	}
	s.publish(tuf.RoleSnapshot, tuf.RoleTimestamp)
}

// visited returns which delegated roles were asked for.
func visited(s *sim) []string {
	out := []string{}
	for _, r := range s.requests() {
		if _, role, ok := strings.Cut(r, "."); ok && !slices.Contains([]string{tuf.RoleRoot, tuf.RoleSnapshot, tuf.RoleTargets}, role) {
			out = append(out, role)
		}
	}
	return out
}

func testGraphs(t *testing.T) {
	py := []string{"*.py"}
	for name, tc := range map[string]struct {
		edges []edge
		want  string
	}{
		"basic-delegation":         {[]edge{{"targets", "A", nil, false}}, "A"},
		"single-level-delegations": {[]edge{{"targets", "A", nil, false}, {"targets", "B", nil, false}}, "A B"},
		"two-level-delegations":    {[]edge{{"targets", "A", nil, false}, {"targets", "B", nil, false}, {"B", "C", nil, false}}, "A B C"},
		"two-level-test-DFS-order-of-traversal": {
			[]edge{{"targets", "A", nil, false}, {"targets", "B", nil, false}, {"A", "C", nil, false}, {"A", "D", nil, false}}, "A C D B"},
		"three-level-delegation-test-DFS-order-of-traversal": {
			[]edge{{"targets", "A", nil, false}, {"targets", "B", nil, false}, {"A", "C", nil, false}, {"C", "D", nil, false}}, "A C D B"},
		"two-level-terminating-ignores-all-but-roles-descendants": {
			[]edge{{"targets", "A", nil, false}, {"targets", "B", nil, false}, {"A", "C", nil, true}, {"A", "D", nil, false}}, "A C"},
		"three-level-terminating-ignores-all-but-roles-descendants": {
			[]edge{{"targets", "A", nil, false}, {"targets", "B", nil, false}, {"A", "C", nil, true}, {"C", "D", nil, false}}, "A C D"},
		"two-level-ignores-all-branches-not-matching-paths": {
			[]edge{{"targets", "A", py, false}, {"targets", "B", nil, false}, {"A", "C", nil, false}}, "B"},
		"three-level-ignores-all-branches-not-matching-paths": {
			[]edge{{"targets", "A", nil, false}, {"targets", "B", nil, false}, {"A", "C", py, false}, {"C", "D", nil, false}}, "A B"},
		"cyclic-graph": {
			[]edge{{"targets", "A", nil, false}, {"targets", "B", nil, false}, {"B", "C", nil, false}, {"C", "D", nil, false}, {"D", "B", nil, false}}, "A B C D"},
		"two-roles-delegating-to-a-third": {
			[]edge{{"targets", "A", nil, false}, {"targets", "B", nil, false}, {"B", "C", nil, false}, {"A", "C", nil, false}}, "A C B"},
		"two-roles-delegating-to-a-third-different-paths": {
			[]edge{{"targets", "A", nil, false}, {"targets", "B", nil, false}, {"B", "C", nil, false}, {"A", "C", py, false}}, "A B C"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			graph(s, tc.edges)
			must(t, c.refresh(s))
			s.requests()
			if _, _, err := c.lookup("missingpath"); !errors.Is(err, tuf.ErrNotFound) {
				t.Errorf("Lookup() = %v; want ErrNotFound", err)
			}
			if diff := cmp.Diff(tc.want, strings.Join(visited(s), " ")); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		})
	}
}

func testSearch(t *testing.T) {
	for name, tc := range map[string]struct {
		target string
		found  bool
		want   []string
	}{
		"no delegations":                                        {"targetfile", true, []string{}},
		"targetpath matches wildcard":                           {"README.md", true, []string{"A"}},
		"targetpath with separators x":                          {"releases/x/x_v1", true, []string{"B", "C"}},
		"targetpath with separators y":                          {"releases/y/y_v1.zip", true, []string{"B", "D"}},
		"targetpath is not delegated by all roles in the chain": {"releases/z/z_v1.zip", false, []string{"B"}},
		"wildcard does not match path separator":                {"releases/README.md", false, []string{}},
		"targetpath matches question mark wildcard":             {"foo-1.tgz", true, []string{"A"}},
		"targetpath does not match question mark wildcard":      {"foo-alpha.tgz", false, []string{}},
		"targetpath matching is case sensitive":                 {"README.MD", false, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim()
			c := newClient(s)
			s.add(tuf.RoleTargets, "targetfile", "targetfile content")
			edges := []edge{
				{"targets", "A", []string{"*.doc", "*.md", "foo-?.tgz"}, false}, {"targets", "B", []string{"releases/*/*"}, false},
				{"B", "C", []string{"releases/x/*"}, false}, {"B", "D", []string{"releases/y/*.zip"}, false},
			}
			for _, e := range edges {
				s.delegate(e.from, e.to, e.paths, e.end)
			}
			for file, role := range map[string]string{
				"README.md": "A", "releases/README.md": "A", "foo-1.tgz": "A", "foo-alpha.tgz": "A",
				"releases/x/x_v1": "C", "releases/y/y_v1.zip": "D", "releases/z/z_v1.zip": "D",
			} {
				s.add(role, file, file+" by "+role)
			}
			graph(s, nil)
			must(t, c.refresh(s))
			s.requests()
			if _, _, err := c.lookup(tc.target); (err == nil) != tc.found {
				t.Errorf("Lookup(%s) = %v; want it found: %t", tc.target, err, tc.found)
			}
			if diff := cmp.Diff(tc.want, visited(s)); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		})
	}
}

// signing is a version of metadata: its role's keys, the threshold, and the
// keys that have signed.
type signing struct {
	keys      []int
	threshold int
	sigs      []int
}

func testRootRotation(t *testing.T) {
	five, next := []int{10, 11, 12, 13, 14}, []int{10, 11, 13, 14, 15}
	for name, tc := range map[string]struct {
		versions []signing
		bad      bool // the last one is refused
	}{
		"1-of-1-key-rotation-with-keep-old-signing": {[]signing{{[]int{11}, 1, []int{11}}, {[]int{12}, 1, []int{12, 11}}, {[]int{12}, 1, []int{12, 11}}}, false},
		"1-of-1-key-rotation":                       {[]signing{{[]int{11}, 1, []int{11}}, {[]int{12}, 1, []int{12, 11}}, {[]int{12}, 1, []int{12}}}, false},
		"1-of-1-key-rotation-unused-signatures":     {[]signing{{[]int{11}, 1, []int{13, 11, 14}}, {[]int{12}, 1, []int{13, 12, 11, 14}}, {[]int{12}, 1, []int{13, 12, 14}}}, false},
		"3-of-5-sign-with-different-keycombos":      {[]signing{{five, 3, []int{10, 12, 14}}, {five, 3, []int{10, 14, 11}}, {five, 3, []int{10, 11, 13}}, {five, 3, []int{10, 11, 13}}}, false},
		"3-of-5-one-key-rotated":                    {[]signing{{five, 3, []int{10, 12, 14}}, {next, 3, []int{10, 14, 11}}}, false},
		"3-of-5-one-key-rotated-with-intermediate-step": {
			[]signing{{five, 3, []int{10, 12, 14}}, {next, 3, []int{10, 12, 14, 15}}, {next, 3, []int{10, 14, 15}}}, false},
		"3-of-5-all-keys-rotated-with-intermediate-step": {[]signing{{five, 3, []int{10, 12, 14}},
			{[]int{15, 16, 17, 18, 19}, 3, []int{10, 12, 14, 15, 16, 17}}, {[]int{15, 16, 17, 18, 19}, 3, []int{15, 16, 17}}}, false},
		"1-of-3-threshold-increase-to-2-of-3":                             {[]signing{{[]int{11, 12, 13}, 1, []int{11}}, {[]int{11, 12, 13}, 2, []int{11, 12}}}, false},
		"2-of-3-threshold-decrease-to-1-of-3":                             {[]signing{{[]int{11, 12, 13}, 2, []int{11, 12}}, {[]int{11, 12, 13}, 1, []int{11, 12}}, {[]int{11, 12, 13}, 1, []int{11}}}, false},
		"1-of-2-threshold-increase-to-2-of-2":                             {[]signing{{[]int{11}, 1, []int{11}}, {[]int{11, 12}, 2, []int{11, 12}}}, false},
		"1-of-1-key-rotation-fail-not-signed-with-old-key":                {[]signing{{[]int{11}, 1, []int{11}}, {[]int{12}, 1, []int{12, 13, 14}}}, true},
		"1-of-1-key-rotation-fail-not-signed-with-new-key":                {[]signing{{[]int{11}, 1, []int{11}}, {[]int{12}, 1, []int{11, 13, 14}}}, true},
		"3-of-5-one-key-rotate-fails-not-signed-with-3-new-keys":          {[]signing{{five, 3, []int{10, 12, 14}}, {next, 3, []int{10, 12, 14}}}, true},
		"3-of-5-one-key-rotate-fails-not-signed-with-3-old-keys":          {[]signing{{five, 3, []int{10, 12, 14}}, {next, 3, []int{10, 14, 15}}}, true},
		"1-of-3-threshold-bump-to-2-of-3-fails-new-threshold-not-reached": {[]signing{{[]int{11, 12, 13}, 1, []int{11}}, {[]int{11, 12, 13}, 2, []int{12}}}, true},
		"2-of-3-threshold-decr-to-1-of-3-fails-old-threshold-not-eached":  {[]signing{{[]int{11, 12, 13}, 2, []int{11, 12}}, {[]int{11, 12, 13}, 1, []int{11}}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim()
			s.remove(tuf.RoleRoot)
			s.root.Signed.Version = 0
			for _, v := range tc.versions {
				s.setKeys(tuf.RoleRoot, v.keys, v.threshold, v.sigs)
				s.publish(tuf.RoleRoot)
			}
			c := newClient(s)
			err := c.refresh(s)
			want := int64(len(tc.versions))
			if tc.bad {
				want--
			}
			if (err != nil) != tc.bad || c.version(t, tuf.RoleRoot) != want {
				t.Errorf("refresh() = %v, root %d; want refused: %t, root %d", err, c.version(t, tuf.RoleRoot), tc.bad, want)
			}
		})
	}
}

func testRotations(t *testing.T) {
	five, other := []int{10, 11, 12, 13, 14}, []int{10, 11, 13, 14, 15}
	for name, tc := range map[string]struct {
		signing
		bad bool
	}{
		"1-of-1-key-rotation":                                            {signing{[]int{12}, 1, []int{12}}, false},
		"1-of-1-key-rotation-unused-signatures":                          {signing{[]int{11}, 1, []int{13, 11, 14}}, false},
		"1-of-1-key-rotation-fail-not-signed-with-new-key":               {signing{[]int{12}, 1, []int{11, 13, 14}}, true},
		"3-of-5-one-key-signature-wrong-not-signed-with-3-expected-keys": {signing{other, 3, []int{10, 12, 14}}, true},
		"2-of-5-one-key-signature-mising-threshold-not-reached":          {signing{other, 3, []int{10, 14}}, true},
		"3-of-5-sign-first-combo":                                        {signing{five, 3, []int{10, 12, 14}}, false},
		"3-of-5-sign-second-combo":                                       {signing{five, 3, []int{10, 14, 11}}, false},
		"3-of-5-sign-third-combo":                                        {signing{five, 3, []int{10, 11, 13}}, false},
		"3-of-5-sign-fourth-combo":                                       {signing{five, 3, []int{11, 12, 13}}, false},
		"3-of-5-sign-fifth-combo":                                        {signing{five, 3, []int{12, 13, 14}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, role := range []string{tuf.RoleTimestamp, tuf.RoleSnapshot, tuf.RoleTargets} {
				s := newSim()
				c := newClient(s)
				s.setKeys(role, tc.keys, tc.threshold, tc.sigs)
				s.all()
				if err := c.refresh(s); (err != nil) != tc.bad {
					t.Errorf("%s: refresh() = %v; want refused: %t", role, err, tc.bad)
				}
			}
		})
	}
}

// The ed25519 part of the suite's test_keytype_and_scheme.
func TestKeyType(t *testing.T) {
	s := newSim()
	c := newClient(s)
	s.setKeys(tuf.RoleRoot, []int{1, 20}, 2, []int{1, 20})
	s.publish(tuf.RoleRoot)
	must(t, c.refresh(s))
	s.publish(tuf.RoleRoot)
	s.edit(storepath.RoleMetadata(tuf.RoleRoot, 3), func(d map[string]any) {
		d["signatures"].([]any)[1].(map[string]any)["sig"] = strings.Repeat("b6", 64)
	})
	refused(t, c.refresh(s), tuf.ErrSignature)
	c.expect(t, "root 2, timestamp 1, snapshot 1, targets 1")
	// A key of another type may stand there, and does not count.
	s = newSim()
	c = newClient(s)
	s.addKey(tuf.RoleTimestamp, 20)
	s.root.Signed.Keys[keyID(20)].Type = "ecdsa"
	s.publish(tuf.RoleRoot)
	must(t, c.refresh(s))
}

// Role names that could lead somewhere in a store are refused.
func TestRoleNames(t *testing.T) {
	for _, name := range []string{"?", "#", "/delegatedrole", "../delegatedrole", "", "targets", "root", "a b", "x\x00"} {
		s := newSim()
		c := newClient(s)
		s.targets[tuf.RoleTargets].Signed.Delegations = &metadata.Delegations{
			Keys:  map[string]*metadata.Key{},
			Roles: []metadata.DelegatedRole{{Name: name, KeyIDs: []string{}, Threshold: 1, Paths: []string{"*"}}},
		}
		s.publish(tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp)
		refused(t, c.refresh(s), tuf.ErrFormat)
	}
}

// An anchor of keys begins at the store's first root, if they have signed it.
func TestKeyAnchor(t *testing.T) {
	s := newSim()
	s.remove(tuf.RoleRoot)
	s.root.Signed.Version = 0
	s.setKeys(tuf.RoleRoot, []int{10, 11, 12}, 2, []int{10, 11})
	s.publish(tuf.RoleRoot)
	s.rotate(tuf.RoleRoot)
	s.publish(tuf.RoleRoot)
	for _, tc := range []struct {
		name string
		keys []int
		want error
	}{
		{"those that signed", []int{10, 11}, nil},
		{"all", []int{12, 11, 10}, nil},
		{"one too few", []int{10}, tuf.ErrUnknownKey},
		{"one that has not signed", []int{10, 12}, tuf.ErrUnknownKey},
		{"others", []int{20, 21}, tuf.ErrUnknownKey},
		{"the ones of another version", []int{101}, tuf.ErrUnknownKey},
		{"none", nil, tuf.ErrUnknownKey},
	} {
		var a []publicKey
		for _, n := range tc.keys {
			a = append(a, public(n))
		}
		set, err := tuf.Update(context.Background(), tuf.KeyAnchor(a...), s, tuf.Options{Now: epoch})
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: Update() = %v; want %v", tc.name, err, tc.want)
		}
		if err == nil && set.Root().Version() != 2 {
			t.Errorf("%s: root %d; want 2", tc.name, set.Root().Version())
		}
	}
}

// What is longer than the limits is not read; what was announced bounds it.
func TestLengths(t *testing.T) {
	pad := func(s *sim, path string, n int) {
		s.files[path] = append(s.files[path], strings.Repeat(" ", n)...)
	}
	for path, limit := range map[string]int{
		storepath.RoleMetadata(tuf.RoleRoot, 2): tuf.MaxRoot, storepath.Timestamp: tuf.MaxTimestamp,
		storepath.RoleMetadata(tuf.RoleSnapshot, 2): tuf.MaxSnapshot, storepath.RoleMetadata(tuf.RoleTargets, 2): tuf.MaxTargets,
	} {
		s := newSim()
		c := newClient(s)
		s.all()
		pad(s, path, limit-len(s.files[path]))
		must(t, c.refresh(s))
		c = newClient(s)
		pad(s, path, 1)
		refused(t, c.refresh(s), nil)
	}
	s := newSim()
	s.hashes = true
	s.all()
	pad(s, storepath.RoleMetadata(tuf.RoleTargets, 2), 1)
	refused(t, newClient(s).refresh(s), nil)
}

// Whatever comes, what was seen stays the floor.
func TestMixAndMatch(t *testing.T) {
	s := newSim()
	s.hashes = true
	var times []map[string][]byte
	for i := range 5 {
		s.add(tuf.RoleTargets, "f", fmt.Sprint(i))
		s.publish(tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp)
		files := make(map[string][]byte)
		for p, d := range s.files {
			files[p] = d
		}
		times = append(times, files)
	}
	c := newClient(s)
	s.files = times[2]
	must(t, c.refresh(s))
	for i := range times {
		s.files = times[i]
		if err := c.refresh(s); (err == nil) != (i >= 2) {
			t.Errorf("state %d after state 2: %v", i, err)
		}
	}
	// A snapshot of one time with a timestamp of another.
	for a := range times {
		for b := range times {
			if a == b {
				continue
			}
			s.files = make(map[string][]byte)
			for p, d := range times[len(times)-1] {
				s.files[p] = d
			}
			s.files[storepath.Timestamp] = times[a][storepath.Timestamp]
			s.files[storepath.RoleMetadata(tuf.RoleSnapshot, int64(a+2))] = times[b][storepath.RoleMetadata(tuf.RoleSnapshot, int64(b+2))]
			refused(t, newClient(s).refresh(s), tuf.ErrMismatch)
		}
	}
}

// Seen raises the floor by what was right in an update that failed.
func TestSeen(t *testing.T) {
	s := newSim()
	c := newClient(s)
	old := s.files[storepath.Timestamp]
	must(t, c.refresh(s))
	s.publish(tuf.RoleSnapshot, tuf.RoleTimestamp)
	delete(s.files, storepath.RoleMetadata(tuf.RoleSnapshot, 2))
	refused(t, c.refresh(s), nil)
	s.files[storepath.Timestamp] = old
	refused(t, c.refresh(s), tuf.ErrRollback)
	if seen := tuf.Seen(errors.New("x")); seen != nil {
		t.Errorf("Seen() of another error = %v", seen)
	}
}
