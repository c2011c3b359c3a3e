package command

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/digest"
)

type indexOptions struct {
	json   bool
	blocks bool
}

// indexReport is the output of "blockfs index --json".
type indexReport struct {
	SHA256  digest.SHA256 `json:"sha256"` // of the index
	Size    int64         `json:"size"`   // plain bytes of the file
	Stored  int64         `json:"stored"` // bytes of its blocks in the store
	Entries int           `json:"entries"`
	Blocks  int           `json:"blocks"` // entries that are not zero blocks
	Unique  int           `json:"unique"` // different ones of these
	Zero    int64         `json:"zero"`   // bytes in zero blocks
	Largest int           `json:"largest"`
	Cutting string        `json:"cutting"`
	List    []indexBlock  `json:"list,omitempty"`
}

type indexBlock struct {
	Offset int64  `json:"offset"`
	Plain  int    `json:"plain"`
	Stored int    `json:"stored"`
	SHA256 string `json:"sha256,omitempty"`
}

func newIndex() *cobra.Command {
	var o indexOptions
	c := &cobra.Command{
		Use:   "index FILE",
		Short: "Print what an index says",
		Example: `  blockfs index /srv/store/indexes/2f3a...90
  blockfs index --json --blocks 2f3a...90 | jq .list[0]`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runIndex(c.OutOrStdout(), o, args[0]) },
	}
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	c.Flags().BoolVar(&o.blocks, "blocks", false, "list the blocks, too")
	return c
}

func runIndex(w io.Writer, o indexOptions, name string) error {
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	if st.Size() > index.MaxBytes {
		return fmt.Errorf("%s: %d bytes, an index has at most %d", name, st.Size(), index.MaxBytes)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	x, err := index.Parse(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	r := indexReport{SHA256: digest.Of(raw), Size: x.Size(), Stored: x.StoredSize(), Entries: x.Len(), Blocks: x.Blocks(), Largest: x.Largest(), Cutting: x.Cutting().String()}
	seen := make(map[digest.SHA256]struct{})
	off := int64(0)
	for i := range x.Len() {
		e := x.Entry(i)
		b := indexBlock{Offset: off, Plain: e.PlainLen, Stored: e.StoredLen}
		off += int64(e.PlainLen)
		if e.Zero() {
			r.Zero += int64(e.PlainLen)
		} else {
			seen[e.SHA256] = struct{}{}
			b.SHA256 = e.SHA256.String()
		}
		if o.blocks {
			r.List = append(r.List, b)
		}
	}
	r.Unique = len(seen)
	if o.json {
		enc := json.NewEncoder(w)
		enc.SetIndent("", " ")
		return enc.Encode(r)
	}
	fmt.Fprintf(w, "index     %v\nfile      %d bytes\nstored    %d bytes in %d blocks (%d different)\nzeros     %d bytes\nlargest   %d bytes\ncut at    %s\n",
		r.SHA256, r.Size, r.Stored, r.Blocks, r.Unique, r.Zero, r.Largest, r.Cutting)
	for _, b := range r.List {
		sum := b.SHA256
		if sum == "" {
			sum = "zeros"
		}
		fmt.Fprintf(w, "%14d %8d %8d %s\n", b.Offset, b.Plain, b.Stored, sum)
	}
	return nil
}
