package command

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/imagetool/keys"
)

type keyNewOptions struct {
	where
	plain bool
}

func (a *app) keyNewCommand() *cobra.Command {
	var o keyNewOptions
	c := &cobra.Command{
		Use:   "new NAME",
		Short: "Make a key",
		Long: `New makes a key in the key folder and prints its public half. What it may sign is
another matter: give the public half to whoever holds the root keys (key rotate
--add), or, for a publisher of some of the images, to whoever holds the targets
key (publisher add).`,
		Example: `  imagetool key new alice >alice.pub
  imagetool key new root-2 --keys /media/safe/keys`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, names []string) error { return a.runKeyNew(c.Context(), &o, names[0]) },
	}
	o.keyFlags(c)
	c.Flags().BoolVar(&o.plain, "no-passphrase", false, "leave the key unencrypted")
	return c
}

func (a *app) runKeyNew(ctx context.Context, o *keyNewOptions, arg string) error {
	name, err := keyName(arg)
	if err != nil {
		return err
	}
	if err := a.findKeys(&o.where); err != nil {
		return err
	}
	r, err := a.ring(&o.where)
	if err != nil {
		return err
	}
	pub, err := r.Create(ctx, name, o.plain)
	if err != nil {
		return err
	}
	k := keys.Key{Name: name, Public: pub}
	if a.json {
		return a.writeJSON(map[string]any{"name": name, "key_id": k.ID(), "public": hex.EncodeToString(k.Public), "file": r.Path(name), "encrypted": !o.plain})
	}
	fmt.Fprintf(a.err, "Key %s in %s; keep a copy in a safe place\n", k.ID(), r.Path(name))
	return a.sayPublic(k)
}

// sayPublic writes the public half of a key as OpenSSH does.
func (a *app) sayPublic(k keys.Key) error {
	name := k.Name
	if name == "" {
		name = publish.Short(k.ID())
	}
	line, err := keys.FormatPublic(k.Public, name)
	if err != nil {
		return err
	}
	a.say("%s", line)
	return nil
}

type keyExportOptions struct {
	where
	root bool
	out  string
}

func (a *app) keyExportCommand() *cobra.Command {
	var o keyExportOptions
	c := &cobra.Command{
		Use:   "export [NAME]",
		Short: "Print the public half of a key, or the root for other people's media",
		Long: `Export prints the public half of a key, for those who shall let it sign. NAME is
the name of the file without .key, or the beginning of the key's id; it may be
left out if there is one key only.

With --root it prints the newest root that the store has, verified: whoever makes
media or mirrors of this store begins there (media --root, key folder).`,
		Example: `  imagetool key export alice -o alice.pub
  imagetool key export --root -o root.json`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, names []string) error { return a.runKeyExport(c.Context(), &o, names) },
	}
	o.flags(c)
	c.Flags().BoolVar(&o.root, "root", false, "the root, not a key")
	c.Flags().StringVarP(&o.out, "output", "o", "", "file to write (default: standard output)")
	return c
}

func (a *app) runKeyExport(ctx context.Context, o *keyExportOptions, names []string) error {
	if o.root && len(names) > 0 {
		return &usageError{errors.New("--root is not about a key: leave the name out")}
	}
	var text []byte
	var result map[string]any
	if o.root {
		c, err := a.newest(ctx, &o.where)
		if err != nil {
			return err
		}
		root := c.Trusted().Root()
		text, result = root.Bytes(), map[string]any{"root": root.Version(), "expires": root.Expires()}
	} else {
		if err := a.findKeys(&o.where); err != nil {
			return err
		}
		r, err := a.ring(&o.where)
		if err != nil {
			return err
		}
		k, err := pickKey(ctx, r, names)
		if err != nil {
			return err
		}
		name := k.Name
		if name == "" {
			name = publish.Short(k.ID())
		}
		line, err := keys.FormatPublic(k.Public, name)
		if err != nil {
			return err
		}
		text, result = []byte(line+"\n"), map[string]any{"name": k.Name, "key_id": k.ID(), "public": hex.EncodeToString(k.Public), "openssh": line}
	}
	if o.out != "" {
		if err := os.WriteFile(o.out, text, 0o644); err != nil {
			return fmt.Errorf("write the public half: %w", err)
		}
		result["file"] = o.out
	}
	if a.json {
		return a.writeJSON(result)
	}
	if o.out == "" {
		if _, err := a.out.Write(text); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	}
	return nil
}

// pickKey returns the key that is meant by its name or the beginning of its
// id.
func pickKey(ctx context.Context, r *keys.Ring, names []string) (keys.Key, error) {
	f, err := keys.Load(ctx, r)
	if err != nil {
		return keys.Key{}, err
	}
	if len(names) == 0 {
		name, err := oneKey(r, nil)
		if err != nil {
			return keys.Key{}, err
		}
		names = []string{name}
	}
	for _, k := range f.Keys() {
		if name, err := keyName(names[0]); err == nil && k.Name == name || isID(names[0], k.ID()) {
			return k, nil
		}
	}
	return keys.Key{}, fmt.Errorf("%w %s in %s or in an SSH agent", keys.ErrNoKey, names[0], r.Dir())
}

// minID is how many digits of a key's id say which one it is.
const minID = 8

// isID tells whether s is the beginning of id.
func isID(s, id string) bool { return len(s) >= minID && len(s) <= len(id) && id[:len(s)] == s }

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
		Example: `  imagetool key passphrase targets
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
