package command

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/internal/keyfile"
)

func rootFile(dir string) string { return filepath.Join(dir, keys.RootFile) }

func (a *app) keyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "key",
		Short: "Look after the signing keys",
		Long: `Signing keys are ed25519 keys in files of the format of OpenSSH, NAME.key in the
key folder, encrypted with a passphrase. Commands that sign take it from
--passphrase-file, from $INETBOOT_PASSPHRASE, or ask for it on the terminal.

A key that an SSH agent has ($SSH_AUTH_SOCK) needs no passphrase: run
ssh-add -c -t 1h targets.key once. ssh-keygen -p works on key files, too.`,
		Example: `  imagetool key list
  imagetool key passphrase targets
  ssh-add -c -t 1h ~/.config/inetboot/keys/targets.key`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.keyListCommand(), a.keyPassphraseCommand())
	return c
}

func (a *app) keyListCommand() *cobra.Command {
	var w where
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"show"},
		Short:   "List the keys, and where their private halves are",
		Example: `  imagetool key list
  imagetool key list --json | jq -r '.keys[] | select(.private | length == 0) | .key_id'`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.runKeyList(c.Context(), &w) },
	}
	w.keyFlags(c)
	return c
}

// keyList is what key list says.
type keyList struct {
	Root  string      `json:"root"` // file
	Roles []keyRole   `json:"roles"`
	Keys  []listedKey `json:"keys"`
}

// keyRole is a role of the root.
type keyRole struct {
	Name      string `json:"name"`
	Threshold int    `json:"threshold"` // how many keys have to sign
	Keys      int    `json:"keys"`
}

type listedKey struct {
	ID      string        `json:"key_id"`
	Public  string        `json:"public"`  // 32 bytes in hexadecimal
	Roles   []string      `json:"roles"`   // of the root
	Private []keyLocation `json:"private"` // empty: elsewhere
}

// keyLocation is a place where the private half of a key is.
type keyLocation struct {
	File      string `json:"file,omitempty"`
	Encrypted bool   `json:"encrypted"`
	Agent     bool   `json:"agent,omitempty"`
}

func (l keyLocation) String() string {
	switch {
	case l.Agent:
		return "SSH agent"
	case l.Encrypted:
		return l.File + ", encrypted"
	}
	return l.File + ", NOT ENCRYPTED"
}

func (a *app) runKeyList(ctx context.Context, w *where) error {
	if err := a.findKeys(w); err != nil {
		return err
	}
	_, data, err := keys.LoadRoot(rootFile(w.keys))
	if err != nil {
		return err
	}
	root, err := publish.NextRoot(data)
	if err != nil {
		return err
	}
	r, err := a.ring(w)
	if err != nil {
		return err
	}
	found, err := r.Locations(ctx)
	if err != nil {
		return err
	}
	l := keyList{Root: rootFile(w.keys), Keys: []listedKey{}}
	roles := make(map[string][]string) // of a public key
	for _, name := range publish.TopRoles() {
		role := root.Role(name)
		l.Roles = append(l.Roles, keyRole{name, role.Threshold, len(role.KeyIDs)})
		for _, id := range role.KeyIDs {
			public := hex.EncodeToString(root.Key(id))
			if roles[public] == nil {
				l.Keys = append(l.Keys, listedKey{ID: id, Public: public})
			}
			roles[public] = append(roles[public], name)
		}
	}
	for i := range l.Keys {
		k := &l.Keys[i]
		k.Roles, k.Private = roles[k.Public], locations(found, k.Public)
	}
	for _, f := range found {
		if public := hex.EncodeToString(f.Public); roles[public] == nil && f.File != nil {
			roles[public] = []string{}
			l.Keys = append(l.Keys, listedKey{ID: publish.KeyID(f.Public), Public: public, Roles: roles[public], Private: locations(found, public)})
		}
	}
	if a.json {
		return a.writeJSON(l)
	}
	t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEY ID\tROLES\tPRIVATE HALF")
	for _, k := range l.Keys {
		var where []string
		for _, p := range k.Private {
			where = append(where, p.String())
		}
		if len(where) == 0 {
			where = []string{"elsewhere"}
		}
		roles := strings.Join(k.Roles, ", ")
		if roles == "" {
			roles = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", k.ID, roles, strings.Join(where, "; "))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	var need []string
	for _, r := range l.Roles {
		need = append(need, fmt.Sprintf("%s %d of %d", r.Name, r.Threshold, r.Keys))
	}
	a.say("Have to sign: %s (by version %d of %s)", strings.Join(need, ", "), root.Version()-1, l.Root)
	return nil
}

func locations(found []keys.Location, public string) []keyLocation {
	out := []keyLocation{}
	for _, f := range found {
		switch {
		case hex.EncodeToString(f.Public) != public:
		case f.File == nil:
			out = append(out, keyLocation{Agent: true})
		default:
			out = append(out, keyLocation{File: f.File.Name, Encrypted: f.File.Encrypted})
		}
	}
	return out
}

type keyPassphraseOptions struct {
	where
	newFile string
	plain   bool
}

func (a *app) keyPassphraseCommand() *cobra.Command {
	var o keyPassphraseOptions
	c := &cobra.Command{
		Use:   "passphrase [NAME]",
		Short: "Set, change or take away the passphrase of a key",
		Long: `Passphrase encrypts a key file with another passphrase. NAME is the name of the
file without .key; it may be left out if there is one key only. Key files that
older versions wrote in PKCS #8 become OpenSSH's.

Copies of the file that exist elsewhere keep the passphrase that they have.`,
		Example: `  imagetool key passphrase
  imagetool key passphrase targets --passphrase-file old --new-passphrase-file new
  imagetool key passphrase targets --no-passphrase`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, names []string) error { return a.runKeyPassphrase(c.Context(), &o, names) },
	}
	o.keyFlags(c)
	c.Flags().StringVar(&o.newFile, "new-passphrase-file", "", "file with the new passphrase; - is standard input (default: $"+newPassphraseVariable+", else asked for on the terminal)")
	c.Flags().BoolVar(&o.plain, "no-passphrase", false, "leave the key unencrypted")
	return c
}

func (a *app) runKeyPassphrase(ctx context.Context, o *keyPassphraseOptions, names []string) error {
	if o.plain && o.newFile != "" {
		return &usageError{errors.New("--no-passphrase and --new-passphrase-file exclude each other")}
	}
	if err := a.findKeys(&o.where); err != nil {
		return err
	}
	r, err := a.ring(&o.where)
	if err != nil {
		return err
	}
	name, err := oneKey(r, names)
	if err != nil {
		return err
	}
	var next keys.Asker
	if !o.plain {
		if next, err = a.asker(o.newFile, newPassphraseVariable); err != nil {
			return err
		}
	}
	if err := r.SetPassphrase(ctx, name, next); err != nil {
		return err
	}
	file := r.Path(name)
	if a.json {
		return a.writeJSON(map[string]any{"file": file, "encrypted": !o.plain})
	}
	if o.plain {
		a.say("%s is not encrypted any more.", file)
		return nil
	}
	a.say("%s is encrypted with the new passphrase.", file)
	return nil
}

// oneKey returns the name of the key file that is meant.
func oneKey(r *keys.Ring, names []string) (string, error) {
	if len(names) > 0 {
		if name := strings.TrimSuffix(names[0], keys.Suffix); name != "" && filepath.Base(name) == name {
			return name, nil
		}
		return "", &usageError{fmt.Errorf("%q is no name of a key: it is the file's name without folder and %s", names[0], keys.Suffix)}
	}
	files, err := r.Files()
	if err != nil {
		return "", err
	}
	all := keyNames(files)
	switch len(all) {
	case 0:
		return "", fmt.Errorf("%w in %s", keys.ErrNoKey, r.Dir())
	case 1:
		return all[0], nil
	}
	return "", &usageError{fmt.Errorf("which key? Name one of %s", strings.Join(all, ", "))}
}

func keyNames(files []*keyfile.File) []string {
	var out []string
	for _, f := range files {
		out = append(out, strings.TrimSuffix(filepath.Base(f.Name), keys.Suffix))
	}
	return out
}
