#include "extension/pg/index_method.h"

extern "C" {
#include "commands/vacuum.h"
#include "utils/builtins.h"
}

namespace pg {
namespace {

// The end of each of pgvector's index pages.
struct PgvectorTail {
    BlockNumber next_block;
    uint16 unused;
    uint16 page_id;
};

} // namespace

IndexAmRoutine *ordering_index_method(uint16 support_functions) {
    IndexAmRoutine *am = makeNode(IndexAmRoutine);
    am->amstrategies = 0;
    am->amsupport = support_functions;
    am->amoptsprocnum = 0;
    am->amcanorderbyop = true;
    am->amoptionalkey = true;
    am->amkeytype = InvalidOid;
    am->amparallelvacuumoptions = VACUUM_OPTION_PARALLEL_BULKDEL;
    return am;
}

void refuse_pgvector_index(Relation index, Page page, const PgvectorMarks &marks) {
    if (PageIsNew(page) || PageGetSpecialSize(page) != MAXALIGN(sizeof(PgvectorTail)))
        return;
    uint32 magic;
    memcpy(&magic, PageGetContents(page), sizeof(magic));
    auto *tail = reinterpret_cast<PgvectorTail *>(PageGetSpecialPointer(page));
    if (magic != marks.magic || tail->page_id != marks.page_id)
        return;
    const char *name = RelationGetRelationName(index);
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("index \"%s\" was written by pgvector", name),
                    errdetail("Its pages have another format."),
                    errhint("REINDEX INDEX %s builds it anew.", quote_identifier(name))));
}

} // namespace pg
