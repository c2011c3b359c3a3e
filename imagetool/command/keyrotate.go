package command

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/imagetool/store"
)

// pendingFile is the name of a root in the key folder that waits for
// signatures.
const pendingFile = "pending-root.json"

// onlineKey is how the key of the server is called where keys are named.
const onlineKey = "online"

type keyRotateOptions struct {
	where
	add, remove []string
	threshold   int
	lifetime    time.Duration
	plain, hold bool
	out         string
}

const pendingHelp = `Each change is a new version of the root, signed by as many keys as the old and
the new root want. If the keys at hand are not enough, the new root is left as
pending-root.json in the key folder: the others sign it with imagetool key sign,
and whoever is last publishes it. With --hold nothing is signed, so that more
changes can be made to the same version.`

func (a *app) keyRotateCommand() *cobra.Command {
	var o keyRotateOptions
	c := &cobra.Command{
		Use:   "rotate ROLE...",
		Short: "Give a role new keys",
		Long: `Rotate gives roles (root, targets, snapshot, timestamp, or a publisher's name) new
keys. Without --add and --remove it makes a new key for each role, in the place of
the one that the role has; for snapshot and timestamp on a server it takes the key
that the server has now.

KEY is the name of a key in the key folder, a file with a public key, the beginning
of a key's id, or the word online for the server's key.

Machines follow from whatever root their medium has; media need not be made anew.

` + pendingHelp,
		Example: `  imagetool key rotate targets
  imagetool key rotate root --add alice.pub --add bob.pub --threshold 2
  imagetool key rotate root --remove 3fa2c1d09b7e --add carol.pub
  imagetool key rotate snapshot timestamp --add online`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, roles []string) error { return a.runKeyRotate(c.Context(), &o, roles) },
	}
	o.flags(c)
	c.Flags().StringArrayVar(&o.add, "add", nil, "KEY that shall sign for the role; may be repeated")
	c.Flags().StringArrayVar(&o.remove, "remove", nil, "KEY that shall sign no longer; may be repeated")
	c.Flags().IntVar(&o.threshold, "threshold", 0, "how many keys have to sign (default: as before)")
	c.Flags().DurationVar(&o.lifetime, "lifetime", 0, "how long what the role signs counts (default: as before)")
	c.Flags().BoolVar(&o.plain, "no-passphrase", false, "leave a new key unencrypted")
	o.pendingFlags(c)
	return c
}

func (o *keyRotateOptions) pendingFlags(c *cobra.Command) {
	c.Flags().BoolVar(&o.hold, "hold", false, "sign and publish nothing yet")
	c.Flags().StringVarP(&o.out, "output", "o", "", "write a root that waits for signatures here, too")
}

func (a *app) keyThresholdCommand() *cobra.Command {
	var o keyRotateOptions
	c := &cobra.Command{
		Use:   "threshold ROLE N",
		Short: "Say how many keys have to sign for a role",
		Long: `Threshold says how many of a role's keys have to sign.

` + pendingHelp,
		Example: "  imagetool key threshold root 2",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := fmt.Sscanf(args[1], "%d", &o.threshold); err != nil || o.threshold < 1 {
				return &usageError{fmt.Errorf("threshold %q: want a number from 1 on", args[1])}
			}
			return a.runKeyRotate(c.Context(), &o, args[:1])
		},
	}
	o.flags(c)
	o.pendingFlags(c)
	return c
}

// roleEdit is a change of the keys of one role.
type roleEdit struct {
	add       []ed25519.PublicKey
	remove    []string // ids
	threshold int      // 0: as before
	lifetime  time.Duration
}

func (e *roleEdit) root(r *publish.Root, name string) error {
	for _, pub := range e.add {
		if err := r.AddKey(name, pub); err != nil {
			return err
		}
	}
	for _, id := range e.remove {
		if err := r.RemoveKey(name, id); err != nil {
			return err
		}
	}
	if e.lifetime > 0 {
		if err := r.SetLifetime(name, e.lifetime); err != nil {
			return err
		}
	}
	n := e.threshold
	if n == 0 {
		n = r.Role(name).Threshold
	}
	if err := r.SetThreshold(name, n); err != nil {
		return &usageError{err}
	}
	return nil
}

func (e *roleEdit) delegation(d *publish.Delegation) error {
	d.Keys = slices.DeleteFunc(d.Keys, func(k ed25519.PublicKey) bool { return slices.Contains(e.remove, publish.KeyID(k)) })
	for _, pub := range e.add {
		if !slices.ContainsFunc(d.Keys, func(k ed25519.PublicKey) bool { return k.Equal(pub) }) {
			d.Keys = append(d.Keys, pub)
		}
	}
	if e.threshold > 0 {
		d.Threshold = e.threshold
	}
	if e.lifetime > 0 {
		d.Lifetime = e.lifetime
	}
	if d.Threshold > len(d.Keys) {
		return &usageError{fmt.Errorf("threshold %d of %s: it has %d keys; key rotate --add gives it more", d.Threshold, d.Name, len(d.Keys))}
	}
	return nil
}

// editing is what a change of keys works with.
type editing struct {
	st store.Store
	k  *keys.Folder
}

func (a *app) edit(ctx context.Context, w *where) (*editing, error) {
	st, err := a.locate(w)
	if err != nil {
		return nil, err
	}
	e, err := a.editOffline(ctx, w)
	if err != nil {
		return nil, err
	}
	e.st = st
	return e, nil
}

// editOffline is edit without the store.
func (a *app) editOffline(ctx context.Context, w *where) (*editing, error) {
	if err := a.findKeys(w); err != nil {
		return nil, err
	}
	k, err := a.loadKeys(ctx, w)
	if err != nil {
		return nil, err
	}
	return &editing{k: k}, nil
}

func (a *app) runKeyRotate(ctx context.Context, o *keyRotateOptions, roles []string) error {
	if o.threshold < 0 || o.lifetime < 0 {
		return &usageError{errors.New("--threshold and --lifetime must be more than 0")}
	}
	e, err := a.edit(ctx, &o.where)
	if err != nil {
		return err
	}
	top := 0
	for _, name := range roles {
		if slices.Contains(publish.TopRoles(), name) {
			top++
		}
	}
	switch top {
	case len(roles):
		return a.rotateRoot(ctx, o, e, roles)
	case 0:
		if len(roles) == 1 {
			return a.rotatePublisher(ctx, o, e, roles[0])
		}
	}
	return &usageError{errors.New("name roles of the root (root, targets, snapshot, timestamp), or one publisher")}
}

func (a *app) rotateRoot(ctx context.Context, o *keyRotateOptions, e *editing, roles []string) error {
	return a.changeRoot(ctx, o, e, func(r *publish.Root) error {
		for _, name := range roles {
			role := r.Role(name)
			change, err := o.change(ctx, e, name, role.KeyIDs)
			if err != nil {
				return err
			}
			if err := change.root(r, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// change finds out which keys come and go.
func (o *keyRotateOptions) change(ctx context.Context, e *editing, role string, have []string) (*roleEdit, error) {
	out := &roleEdit{threshold: o.threshold, lifetime: o.lifetime}
	for _, s := range o.add {
		pub, err := e.public(ctx, s)
		if err != nil {
			return nil, err
		}
		out.add = append(out.add, pub)
	}
	for _, s := range o.remove {
		id, err := e.keyID(ctx, s, have)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", role, err)
		}
		out.remove = append(out.remove, id)
	}
	if len(o.add)+len(o.remove) > 0 || o.threshold > 0 || o.lifetime > 0 {
		return out, nil
	}
	if len(have) != 1 {
		return nil, &usageError{fmt.Errorf("%s has %d keys: name the one that a new key replaces with --remove, and the new one with --add (see imagetool key list)", role, len(have))}
	}
	out.remove = have
	pub, err := e.fresh(ctx, role, have[0], o.plain)
	out.add = []ed25519.PublicKey{pub}
	return out, err
}

// fresh returns a new key for a role: the server's, if the role's key is not
// ours and the server has another one, or one that is made now.
func (e *editing) fresh(ctx context.Context, role, old string, plain bool) (ed25519.PublicKey, error) {
	_, isServer := e.st.(*store.HTTP)
	if isServer && (role == tuf.RoleSnapshot || role == tuf.RoleTimestamp) && len(e.k.Signers().For([]string{old})) == 0 {
		pub, err := e.public(ctx, onlineKey)
		if err == nil && publish.KeyID(pub) == old {
			err = &usageError{fmt.Errorf("%s: the server still has the key that it had: remove its file online.key, and start the server again", role)}
		}
		return pub, err
	}
	name := role
	for n := 2; ; n++ {
		if _, err := os.Lstat(e.k.Ring().Path(name)); errors.Is(err, fs.ErrNotExist) {
			break
		}
		name = fmt.Sprintf("%s-%d", role, n)
	}
	if err := e.k.Create(ctx, name, plain); err != nil {
		return nil, err
	}
	k, _ := e.k.Key(name)
	return k.Public, nil
}

// public returns the public key that s names.
func (e *editing) public(ctx context.Context, s string) (ed25519.PublicKey, error) {
	if s == onlineKey {
		server, ok := e.st.(*store.HTTP)
		if !ok {
			return nil, &usageError{fmt.Errorf("%s is no server: it has no key of its own", e.st)}
		}
		return server.OnlineKey(ctx)
	}
	for _, k := range e.k.Keys() {
		if k.Name == s && s != "" || isID(s, k.ID()) {
			return k.Public, nil
		}
	}
	data, err := os.ReadFile(s)
	if err != nil {
		return nil, &usageError{fmt.Errorf("key %q is neither a key in %s nor a file: %w", s, e.k.Dir, err)}
	}
	pub, err := keys.ParsePublic(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	return pub, nil
}

// keyID returns the one of ids that s names.
func (e *editing) keyID(ctx context.Context, s string, ids []string) (string, error) {
	for _, id := range ids {
		if isID(s, id) {
			return id, nil
		}
	}
	pub, err := e.public(ctx, s)
	if err != nil {
		return "", err
	}
	if id := publish.KeyID(pub); slices.Contains(ids, id) {
		return id, nil
	}
	return "", &usageError{fmt.Errorf("%s is none of the role's keys (see imagetool key list)", s)}
}

func (e *editing) pending() string { return filepath.Join(e.k.Dir, pendingFile) }

// changeRoot makes the next root, beginning with the one that is pending, if
// there is one.
func (a *app) changeRoot(ctx context.Context, o *keyRotateOptions, e *editing, edit func(*publish.Root) error) error {
	pending, err := os.ReadFile(e.pending())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the root that waits for signatures: %w", err)
	}
	rot := &push.Rotation{Store: e.st, Keys: e.k, Pending: pending, Edit: edit, Hold: o.hold}
	return a.rotate(ctx, e, rot, o.out)
}

// rotate runs rot, and keeps the root beside the keys until it is published.
func (a *app) rotate(ctx context.Context, e *editing, rot *push.Rotation, out string) error {
	rot.Keep = func(r *push.NewRoot) error {
		if !rot.Offline {
			if err := writePrivate(e.pending(), r.Data); err != nil {
				return fmt.Errorf("keep the new root: %w", err)
			}
		}
		if out != "" {
			if err := os.WriteFile(out, r.Data, 0o644); err != nil {
				return fmt.Errorf("write the new root: %w", err)
			}
		}
		return nil
	}
	r, err := rot.Run(ctx)
	if err != nil {
		return err
	}
	if r.Published {
		if err := os.Remove(e.pending()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the root that is published now: %w", err)
		}
	}
	return a.sayRoot(e, r, out)
}

// rootResult is what changes of the root say.
type rootResult struct {
	*push.NewRoot
	Pending string `json:"pending,omitempty"` // file
}

func (a *app) sayRoot(e *editing, r *push.NewRoot, out string) error {
	res := rootResult{NewRoot: r}
	if !r.Published {
		if res.Pending = out; out == "" {
			res.Pending = e.pending()
		}
	}
	if a.json {
		return a.writeJSON(res)
	}
	for _, c := range r.Changes {
		a.say("root %d: %s", r.Version, c)
	}
	if r.Published {
		a.say("Root version %d is published, catalog version %d.", r.Version, r.Catalog)
		return nil
	}
	met := true
	for _, n := range r.Needs {
		if !n.Met() {
			met = false
			a.say("%d more of the keys %s of root version %d have to sign.", n.Threshold-len(n.Signed), shortIDs(n.Unsigned), n.Version)
		}
	}
	where := "those keys are"
	if met {
		where = "the store can be reached, which publishes it"
	}
	a.say("Root version %d waits in %s.", r.Version, res.Pending)
	a.say("Next: imagetool key sign %s, where %s", filepath.Base(res.Pending), where)
	return nil
}

func shortIDs(ids []string) string {
	var out []string
	for _, id := range ids {
		out = append(out, publish.Short(id))
	}
	return strings.Join(out, ", ")
}
