package command

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/imagetool/store"
)

func (a *app) keyListCommand() *cobra.Command {
	var w where
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"show"},
		Short:   "List the roles, their keys, and where the private halves are",
		Long: `List says, for each role of the store's catalog: its version and when it expires, how
many of its keys have to sign, and where their private halves are: in which file,
encrypted or not, in the SSH agent, on the server, or elsewhere. Keys in the key
folder that no role has are listed, too. Needs no passphrase.`,
		Example: `  imagetool key list
  imagetool key list --json | jq -r '.roles[] | select(.expires < (now + 30*86400 | todate)) | .role'`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.runKeyList(c.Context(), &w) },
	}
	w.flags(c)
	return c
}

// keyList is what key list says.
type keyList struct {
	Store   string       `json:"store"`
	Catalog uint64       `json:"catalog"` // version
	Roles   []listedRole `json:"roles"`
	Unused  []listedKey  `json:"unused"`            // keys at hand that no role has
	Pending string       `json:"pending,omitempty"` // file of a root that waits for signatures
}

type listedRole struct {
	Role      string      `json:"role"`
	Version   int64       `json:"version"` // 0: nothing published yet
	Expires   *time.Time  `json:"expires,omitempty"`
	Lifetime  string      `json:"lifetime"`
	Threshold int         `json:"threshold"`
	Paths     []string    `json:"paths,omitempty"` // of a publisher: patterns of the targets
	Keys      []listedKey `json:"keys"`
}

type listedKey struct {
	ID      string        `json:"key_id"`
	Public  string        `json:"public"`         // 32 bytes in hexadecimal
	Name    string        `json:"name,omitempty"` // of the file
	Private []keyLocation `json:"private"`        // empty: elsewhere
}

// keyLocation is a place where the private half of a key is.
type keyLocation struct {
	Where     string `json:"where"` // file, agent, server
	File      string `json:"file,omitempty"`
	Encrypted bool   `json:"encrypted,omitempty"`
}

func (l keyLocation) String() string {
	switch {
	case l.Where == "agent":
		return "SSH agent"
	case l.Where == "server":
		return "the server"
	case l.Encrypted:
		return l.File + ", encrypted"
	}
	return l.File + ", NOT ENCRYPTED"
}

// locator knows where private keys are.
type locator struct {
	at     []keys.Location
	online ed25519.PublicKey
	used   map[string]bool
}

func (l *locator) find(pub ed25519.PublicKey) listedKey {
	out := listedKey{ID: publish.KeyID(pub), Public: hex.EncodeToString(pub), Private: []keyLocation{}}
	l.used[out.ID] = true
	for _, k := range l.at {
		switch {
		case !k.Public.Equal(pub):
		case k.File == nil:
			out.Private = append(out.Private, keyLocation{Where: "agent"})
		default:
			out.Name = strings.TrimSuffix(filepath.Base(k.File.Name), keys.Suffix)
			out.Private = append(out.Private, keyLocation{Where: "file", File: k.File.Name, Encrypted: k.File.Encrypted})
		}
	}
	if l.online.Equal(pub) {
		out.Private = append(out.Private, keyLocation{Where: "server"})
	}
	return out
}

func (a *app) runKeyList(ctx context.Context, w *where) error {
	st, trust, err := a.loadTrust(w)
	if err != nil {
		return err
	}
	r, err := a.ring(w)
	if err != nil {
		return err
	}
	find := &locator{used: make(map[string]bool)}
	if find.at, err = r.Locations(ctx); err != nil {
		return err
	}
	if server, ok := st.(*store.HTTP); ok {
		if find.online, err = server.OnlineKey(ctx); err != nil {
			a.note("%v", err) // a web server that is no InetBoot server has none
		}
	}
	c, _, err := push.Load(ctx, st, trust)
	if err != nil {
		return err
	}
	l := keyList{Store: st.String(), Catalog: c.Version(), Unused: []listedKey{}}
	if l.Roles, err = listRoles(ctx, c, find); err != nil {
		return err
	}
	for _, k := range find.at {
		if k.File != nil && !find.used[publish.KeyID(k.Public)] {
			l.Unused = append(l.Unused, find.find(k.Public))
		}
	}
	e := &editing{k: keys.New(r)}
	if _, err := os.Stat(e.pending()); err == nil {
		l.Pending = e.pending()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for a root that waits for signatures: %w", err)
	}
	if a.json {
		return a.writeJSON(l)
	}
	return a.printKeys(&l)
}

func listRoles(ctx context.Context, c *catalog.Catalog, find *locator) ([]listedRole, error) {
	set := c.Trusted()
	root, err := publish.NextRoot(set.Root().Bytes())
	if err != nil {
		return nil, err
	}
	var out []listedRole
	for _, doc := range []struct {
		name string
		publish.Document
	}{{tuf.RoleRoot, set.Root()}, {tuf.RoleTargets, set.Targets()}, {tuf.RoleSnapshot, set.Snapshot()}, {tuf.RoleTimestamp, set.Timestamp()}} {
		r, expires := root.Role(doc.name), doc.Expires()
		l := listedRole{Role: doc.name, Version: doc.Version(), Expires: &expires, Lifetime: r.Lifetime.String(), Threshold: r.Threshold, Keys: []listedKey{}}
		for _, id := range r.KeyIDs {
			l.Keys = append(l.Keys, find.find(root.Key(id)))
		}
		out = append(out, l)
	}
	all, err := publish.Delegations(set.Targets().Bytes())
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		l := listedRole{Role: d.Name, Lifetime: d.Role().Lifetime.String(), Threshold: d.Threshold, Paths: d.Paths, Keys: []listedKey{}}
		for _, k := range d.Keys {
			l.Keys = append(l.Keys, find.find(k))
		}
		if _, published := set.Snapshot().Meta(d.Name); published {
			t, _, err := set.Role(ctx, d.Name)
			if err != nil {
				return nil, err
			}
			expires := t.Expires()
			l.Version, l.Expires = t.Version(), &expires
		}
		out = append(out, l)
	}
	return out, nil
}

func (a *app) printKeys(l *keyList) error {
	t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ROLE\tVERSION\tEXPIRES\tSIGN\tKEY ID\tPRIVATE HALF")
	for _, r := range l.Roles {
		expires := "nothing published"
		if r.Expires != nil {
			expires = r.Expires.Local().Format("2006-01-02 15:04")
		}
		head := fmt.Sprintf("%s\t%d\t%s\t%d of %d", r.Role, r.Version, expires, r.Threshold, len(r.Keys))
		for _, k := range r.Keys {
			fmt.Fprintf(t, "%s\t%s\t%s\n", head, publish.Short(k.ID), k.where())
			head = "\t\t\t"
		}
	}
	for _, k := range l.Unused {
		fmt.Fprintf(t, "none\t\t\t\t%s\t%s\n", publish.Short(k.ID), k.where())
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	a.say("Catalog version %d of %s", l.Catalog, l.Store)
	if l.Pending != "" {
		a.say("A new root waits for signatures in %s: see imagetool key pending", l.Pending)
	}
	return nil
}

func (k listedKey) where() string {
	var out []string
	for _, p := range k.Private {
		out = append(out, p.String())
	}
	if len(out) == 0 {
		return "elsewhere"
	}
	return strings.Join(out, "; ")
}
